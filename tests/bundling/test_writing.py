"""predict.py and bench.py of models that write: the texts of `generate`, for any input."""

import json
from pathlib import Path

import pytest

import dsee_compress
from dsee_compress.reporting import devices
from dsee_compress.store import results

from ..fixtures import decoders, models
from .test_predict import AWKWARD, refused


@pytest.fixture(scope="module", params=decoders.FAMILIES)
def export(request, pruned_decoders, tmp_path_factory) -> Path:
    """Of a pruned decoder, each layer with its own number of heads."""
    output = tmp_path_factory.mktemp(request.param) / "export"
    return dsee_compress.export(pruned_decoders(request.param), output=output, precision=["fp32", "int8"])


@pytest.fixture(scope="module")
def writer(export) -> Path:
    return dsee_compress.bundle(export, output=export.parent / "bundle", precision="fp32", max_new_tokens=30)


def sources(meanings: Path) -> list[str]:
    lines = (meanings / "validation.jsonl").read_text().splitlines()
    found = [json.loads(line)["source"] for line in lines]
    return [*found, *(source[: 3 * index + 1] for index, source in enumerate(found[:12])), "中文 🙂", "Ünknown"]


@pytest.mark.parametrize("batch", [1, 5])
def test_texts_are_those_of_generate(device, oldest_device, export, writer, meanings, tmp_path, batch):
    prompts = sources(meanings)
    wanted = dsee_compress.generate(export, prompts, precision="fp32", max_new_tokens=30)
    models.write_jsonl(tmp_path / "prompts.jsonl", [{"source": prompt} for prompt in prompts])
    for place in (device, oldest_device):
        found = place.answers(writer, tmp_path / "prompts.jsonl", "--batch", batch)
        assert found == [{"text": text} for text in wanted]
    assert device.answers(writer, "--batch", batch, given="\n".join(prompts).encode()) == found
    assert len(set(wanted)) > 10


def test_each_awkward_line_gives_a_text_or_an_error(device, writer):
    found = device.answers(writer, "--batch", 4, given=b"\n".join(AWKWARD.values()))
    found = dict(zip(AWKWARD, found, strict=True))
    wrong = {"an empty line", "not UTF-8", "cut within a letter", "spaces", "10,000 words"}
    assert {name for name, answer in found.items() if "error" in answer} >= wrong
    assert "text" in found["a plain one"]
    assert "and the model reads 140, what it writes included" in found["10,000 words"]["error"]
    assert all(set(answer) in ({"text"}, {"error"}) for answer in found.values())


def test_an_onnxruntime_without_its_operators_is_refused(oldest_device, export, tmp_path):
    bundle = dsee_compress.bundle(export, output=tmp_path / "bundle", precision="int8")
    needed = json.loads((bundle / "bundle.json").read_text())["onnxruntime"]
    assert f"onnxruntime>={needed}" in (bundle / "requirements.txt").read_text().splitlines()
    done = oldest_device.run(bundle / "predict.py", given=b"Aromi")
    if needed == "1.22":
        assert done.returncode == 0
    else:
        assert needed in ("1.23", "1.25"), "of its operators, or of narrow products"
        refused(done, f"onnxruntime 1.22.0 is too old for this model, which needs {needed}; pip install")


def test_prompts_and_steps_are_measured_as_reports_read_them(device, writer, tmp_path):
    options = ("--batch", 2, "--sequence-length", 20, "--new-tokens", 3, "--threads", 1, "--samples", 10)
    done = device.run(writer / "bench.py", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "latency.json").read_text())
    (row,) = content["latency"]
    assert set(results.WRITING) <= set(row)
    assert row["time_to_first_token_ms"] == row["p50_ms"] and row["decode_ms_per_token"] == row["decode"]["p50_ms"]
    assert devices.read(tmp_path / "latency.json", content["bundle"])["latency"] == [row]
    refused(device.run(writer / "bench.py", "--sequence-length", 139, folder=tmp_path), "more than the 140")
