"""A small run with its report."""

import json
from pathlib import Path

import pytest

import dsee_compress


@pytest.fixture(scope="package")
def reported(tuned_folders, tmp_path_factory) -> Path:
    tuned = tuned_folders("bert")
    run = tmp_path_factory.mktemp("reported")
    dense = dsee_compress.export(tuned, output=run / "dense", precision="fp32")
    pruned = dsee_compress.prune(tuned, output=run / "prune", retune_epochs=1, heads=0.5)
    exported = dsee_compress.export(pruned, output=run / "export")
    dsee_compress.validate(exported, max_drop=0.9, max_compression_drop=0.9)
    dsee_compress.benchmark(exported, baseline=str(dense), samples=20, rounds=2, sequence_length=24, threads=1)
    return dsee_compress.report(run)


@pytest.fixture(scope="package")
def content(reported: Path) -> dict:
    return json.loads((reported / "report.json").read_text())


@pytest.fixture
def latency(content) -> dict:
    """A latency.json as a bundle's bench.py writes it: the int8 row, as if an outlier had been measured."""
    row = next(row for row in content["latency"] if row["artifact"] == "pruned_int8")
    ours = {"speedup", "zipped_mb", "baseline"}
    measured = {name: value for name, value in row.items() if name not in ours} | {
        "p50_ms": 61.25,
        "cold_start_ms": 412.0,
        "raw_ms": [[61.25, 61.0, 61.5, 987.0]],
    }
    environment = {
        "cpu": "Raspberry Pi 4 Model B | Rev <1.4>",
        "logical_cores": 4,
        "system": "Linux aarch64",
        "python": "3.11.2",
        "libraries": {"onnxruntime": "1.22.0"},
    }
    return {
        "schema": 1,
        "bundle": content["export"],
        "artifact": "pruned_int8",
        "latency": [measured],
        "environment": environment,
    }
