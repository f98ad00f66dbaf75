"""The report says what was measured, on one page, without a network."""

import copy
import json
import re
from html.parser import HTMLParser

import pytest

import dsee_compress
from dsee_compress.reporting import figures, render


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
    best = max((row for row in content["latency"] if not row["baseline"]), key=lambda row: row["speedup"]["value"])
    name = "onnx_" + best["artifact"].split("_")[1]
    assert page.by_id["speedup"] == f"{best['speedup']['value']:.2f}×"
    assert page.by_id["accuracy"] == f"{100 * content['accuracy'][name]['value']:.1f} %"
    assert page.by_id["smaller"] == f"{content['latency'][0]['size_mb'] / best['size_mb']:.2f}×"
    assert page.fetched == []
    text = (reported / "report.html").read_text()
    assert "@import" not in text and not re.search(r"url\((?!#)", text)


def test_page_draws_every_head_and_names_every_artifact(reported, content):
    text = (reported / "report.html").read_text()
    assert text.count("<svg") == 6, "three pictures, each for a wide and for a narrow screen"
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    for row in content["latency"]:
        assert row["artifact"].replace("_", " ") in text
    kept, removed = text.count("fill: var(--accent)"), text.count("fill: var(--removed)")
    assert kept >= 2 * sum(content["structure"]["heads"]) and removed >= 2 * 6


def test_pictures_are_told_in_words(reported, content):
    labels = re.findall(r'<svg role="img" aria-label="([^"]+)"', (reported / "report.html").read_text())
    structure = content["structure"]
    assert f"layer 0: {structure['heads'][0]} of {structure['dense_heads'][0]} heads" in labels[0]
    for row in content["latency"]:
        calls = [call for block in row["raw_ms"] for call in block]
        words = f"{row['artifact'].replace('_', ' ')}: median {row['p50_ms']:.1f} ms, fastest {min(calls):.1f}"
        assert f"{words}, slowest {max(calls):.1f}" in labels[-1]


def test_sizes_of_the_parts_are_those_of_the_weights(reported, content):
    """All weights of the pruned model are found in its fp32 file, each in its part.

    But for the last layer's key bias, which changes nothing for a single query.
    """
    model = dsee_compress.load(reported / "prune")
    megabytes = {
        "embeddings": sum(weight.numel() for weight in model.bert.embeddings.parameters()) * 4e-6,
        "task_head": sum(
            weight.numel() for head in (model.bert.pooler, model.classifier) for weight in head.parameters()
        )
        * 4e-6,
        "ffn": sum(
            weight.numel()
            for layer in model.bert.encoder.layer
            for linear in (layer.intermediate.dense, layer.output.dense)
            for weight in linear.parameters()
        )
        * 4e-6,
        "attention": sum(
            weight.numel()
            for layer in model.bert.encoder.layer
            for linear in (layer.attention.self, layer.attention.output.dense)
            for weight in linear.parameters()
        )
        * 4e-6,
    }
    megabytes["attention"] -= model.bert.encoder.layer[-1].attention.self.key.bias.numel() * 4e-6
    fp32, int8 = content["size"]
    assert [fp32["artifact"], int8["artifact"]] == ["pruned_fp32", "pruned_int8"]
    assert {part: fp32["parts"][part]["mb"] for part in megabytes} == pytest.approx(megabytes)
    for file in (fp32, int8):
        assert sum(part["share"] for part in file["parts"].values()) == pytest.approx(1)
        assert all(part["mb"] > 0 for part in file["parts"].values())
    assert int8["parts"]["embeddings"]["mb"] < 0.3 * fp32["parts"]["embeddings"]["mb"]


def test_a_precision_of_any_name_can_be_the_fastest(content):
    """Nothing here knows the names of precisions: pruned_int8_static is the kind and the precision int8_static."""
    renamed = copy.deepcopy(content)
    fastest = max(renamed["latency"], key=lambda row: row["speedup"]["value"] if not row["baseline"] else 0)
    other = next(row for row in renamed["latency"] if row is not fastest and not row["baseline"])
    for row, name in ((fastest, "int8_static"), (other, "int4")):
        precision = row["artifact"].removeprefix("pruned_")
        for results in (renamed["accuracy"], renamed["other_metrics"]):
            results[f"onnx_{name}"] = results.pop(f"onnx_{precision}")
        file = next(file for file in renamed["files"] if file["artifact"] == row["artifact"])
        row["artifact"] = file["artifact"] = f"pruned_{name}"
    page = Page(render.html(renamed, figures.draw(renamed)))
    assert page.by_id["accuracy"] == f"{100 * renamed['accuracy']['onnx_int8_static']['value']:.1f} %"
    assert "| pruned_int4 |" in render.markdown(renamed)


def test_markdown_says_the_same(reported, content):
    text = (reported / "report.md").read_text()
    assert f"{100 * content['accuracy']['onnx_int8']['value']:.1f} %" in text
    for row in content["latency"]:
        assert f"| {row['artifact']} |" in text and f"{row['p50_ms']:.2f}" in text


def test_a_title_names_a_hubs_model_by_its_id(content):
    named = content | {"model": content["model"] | {"base": "someone/model"}}
    page = render.html(named, figures.draw(named))
    assert "<h1>someone/model on " in page and "<title>someone/model on " in page
    assert render.markdown(named).startswith("# someone/model on ")


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
