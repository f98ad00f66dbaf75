"""The report says what was measured, on one page, without a network."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import dsee_compress


@pytest.fixture(scope="module")
def reported(tuned_folders, tmp_path_factory) -> Path:
    tuned = tuned_folders("bert")
    run = tmp_path_factory.mktemp("reported")
    dense = dsee_compress.export(tuned, output=run / "dense", precision="fp32")
    pruned = dsee_compress.prune(tuned, output=run / "prune", retune_epochs=1, heads=0.5)
    exported = dsee_compress.export(pruned, output=run / "export")
    dsee_compress.validate(exported, max_drop=0.9, max_compression_drop=0.9)
    dsee_compress.benchmark(exported, baseline=str(dense), samples=20, rounds=2, sequence_length=24, threads=1)
    return dsee_compress.report(run)


@pytest.fixture(scope="module")
def content(reported: Path) -> dict:
    return json.loads((reported / "report.json").read_text())


class Page(HTMLParser):
    """Text by id, and every address that the page would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.by_id: dict[str, str] = {}
        self.fetched: list[str] = []
        self.open: list[str] = []
        self._id = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self._id = named.get("id", "")
        self.fetched += [
            value for name in ("src", "href", "xlink:href") if (value := named.get(name)) and value[0] != "#"
        ]
        if tag in {"script", "link", "iframe", "img"}:
            self.fetched.append(tag)

    def handle_data(self, data):
        if self._id:
            self.by_id.setdefault(self._id, data.strip())


def test_report_json_has_every_key_of_the_schema(content):
    expected = {
        "schema": None,
        "task": {"name", "metric", "validation_examples"},
        "model": {"base", "architecture"},
        "training": {"trainable_parameters", "trainable_fraction", "seconds", "device"},
        "structure": {"heads", "neurons", "weight_sparsity"},
        "cost": {"parameters", "flops"},
        "parity": {"merge_max_abs", "removal_max_abs", "export_max_abs", "label_agreement"},
        "accuracy": {"dense_finetuned", "pruned", "onnx_fp32", "onnx_int8"},
        "latency": None,
        "environment": None,
    }
    assert expected.keys() <= content.keys()
    for section, keys in expected.items():
        assert keys is None or keys <= content[section].keys()
    row_keys = (
        "artifact provider threads batch sequence_length samples mean_ms stdev_ms p50_ms p90_ms p95_ms p99_ms "
        "throughput speedup peak_rss_mb size_mb"
    )
    for row in content["latency"]:
        assert set(row_keys.split()) <= row.keys()
    assert {"dense", "final", "saved"} <= content["cost"]["flops"].keys()
    assert content["cost"]["parameters"]["final"] < content["cost"]["parameters"]["dense"]


def test_page_shows_the_headline_of_the_json_and_fetches_nothing(reported, content):
    page = Page((reported / "report.html").read_text())
    best = max(content["latency"], key=lambda row: row["speedup"]["value"])
    name = "onnx_" + best["artifact"].split("_")[1] if best["artifact"] != "dense_fp32" else "dense_finetuned"
    assert page.by_id["speedup"] == f"{best['speedup']['value']:.2f}×"
    assert page.by_id["accuracy"] == f"{100 * content['accuracy'][name]['value']:.1f} %"
    assert page.by_id["smaller"] == f"{content['latency'][0]['size_mb'] / best['size_mb']:.2f}×"
    assert page.fetched == []
    text = (reported / "report.html").read_text()
    assert "@import" not in text and not re.search(r"url\((?!#)", text)


def test_page_draws_every_head_and_names_every_artifact(reported, content):
    text = (reported / "report.html").read_text()
    assert text.count("<svg") == 3
    for row in content["latency"]:
        assert row["artifact"].replace("_", " ") in text
    kept, removed = text.count("#0f766e"), text.count("#e2e8f0")
    assert kept >= sum(content["structure"]["heads"]) and removed >= 6


def test_markdown_says_the_same(reported, content):
    text = (reported / "report.md").read_text()
    assert f"{100 * content['accuracy']['onnx_int8']['value']:.1f} %" in text
    for row in content["latency"]:
        assert f"| {row['artifact']} |" in text and f"{row['p50_ms']:.2f}" in text


def test_a_report_of_stale_results_is_refused(reported, content):
    from dsee_compress.errors import UserError

    path = reported / "export" / "benchmark.json"
    result = json.loads(path.read_text())
    path.write_text(json.dumps(result | {"key": result["key"] | {"folder": "another"}}))
    with pytest.raises(UserError, match=r"of an earlier content of its folder; run dsee-compress benchmark"):
        dsee_compress.report(reported)
    path.write_text(json.dumps(result))


def test_int8_alone_is_exported_measured_and_reported(reported):
    """No fp32 artifact stays, so int8 is judged against the PyTorch model."""
    folder = reported / "int8"
    dsee_compress.export(reported / "prune", output=folder, precision="int8")
    assert [path.name for path in folder.glob("*.onnx")] == ["model_int8.onnx"]
    dsee_compress.validate(folder, max_drop=0.9, max_compression_drop=0.9)
    gates = json.loads((folder / "validation.json").read_text())["gates"]
    assert ("precision", "pruned", "onnx_int8") in [(g["gate"], g["reference"], g["candidate"]) for g in gates]
    dsee_compress.benchmark(folder, samples=10, rounds=1, sequence_length=16, threads=1)
    dsee_compress.report(folder)
    content = json.loads((folder / "report.json").read_text())
    assert [row["artifact"] for row in content["latency"]] == ["pruned_int8"]
    assert content["parity"]["export_max_abs"] <= 1e-3
