"""What is published is what was measured, and the measuring still runs."""

import json
from pathlib import Path

import pytest

from ..fixtures import models
from . import latency

ROOT = Path(__file__).parents[2]
HEADING = "## Latency against Optimum and PyTorch\n"


def test_the_published_section_is_made_from_the_measured_rows():
    page = (ROOT / "tests/benchmarks/RESULTS.md").read_text()
    section = page.partition(HEADING)[2].partition("\n## ")[0]
    assert section.rstrip().endswith(latency.show(latency.measured_rows()))


def test_a_tiny_model_goes_the_whole_way(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(latency, "RESULTS", tmp_path / "latency.jsonl")
    monkeypatch.setitem(latency.MODELS, "tiny", lambda folder: str(models.write_model("bert", folder)))
    arguments = "measure --models tiny --batches 8 --lengths 16 --rounds 2 --seconds 0 --work".split()
    latency.main([*arguments, str(tmp_path / "work")])
    rows = latency.measured_rows()
    print(json.dumps(rows, indent=1))
    print(capsys.readouterr().out)
