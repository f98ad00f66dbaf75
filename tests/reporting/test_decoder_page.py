"""The report on a decoder: what it says first, on a phone and on a desk."""

import json

import pytest

import dsee_compress

from ..fixtures import models
from ..fixtures.browser import Browser

WIDTHS = (390, 1280)


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    run = tmp_path_factory.mktemp("writes")
    data = models.write_generation_data(run / "data", train=64, validation=10)
    base = models.write_gpt2(run / "gpt2")
    training = {"batch_size": 16, "learning_rate": 1e-2}
    tuned = dsee_compress.finetune(
        model=str(base), data=str(data), task="generation", output=run / "finetune", epochs=3, **training
    )
    dense = dsee_compress.export(tuned, output=run / "dense", precision="fp32")
    pruned = dsee_compress.prune(tuned, output=run / "prune", heads=0.5, retune_epochs=1, **training)
    exported = dsee_compress.export(pruned, output=run / "export", precision=["fp32", "int8"])
    dsee_compress.validate(exported, max_drop=0.95, max_compression_drop=0.95, max_new_tokens=12)
    options = {"samples": 10, "rounds": 2, "sequence_length": [12, 8], "new_tokens": 4, "threads": 1}
    dsee_compress.benchmark(exported, baseline=str(dense), **options)
    return dsee_compress.report(run)


@pytest.fixture(scope="module")
def content(reported):
    return json.loads((reported / "report.json").read_text())


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def test_the_headline_is_the_fastest_a_token(browser, reported, content):
    browser.open(reported / "report.html", 1280)
    names = ("accuracy", "speedup", "first_token", "smaller", "memory", "cache")
    shown = {name: browser.evaluate(f"document.getElementById({name!r}).innerText") for name in names}
    ours = [row for row in content["latency"] if not row["baseline"]]
    best = max(ours, key=lambda row: row["decode"]["speedup"]["value"])
    remembered = content["writing"]["memory_bytes_per_token"]
    assert shown == {
        "accuracy": f"{100 * content['accuracy'][best['artifact'].replace('pruned', 'onnx')]['value']:.1f}",
        "speedup": f"{best['decode']['speedup']['value']:.2f}×",
        "first_token": f"{best['speedup']['value']:.2f}×",
        "smaller": f"{content['latency'][0]['size_mb'] / best['size_mb']:.2f}×",
        "memory": f"{best['peak_rss_mb']:.1f} MB",
        "cache": f"{remembered['final']:,} bytes",
    }
    assert remembered["final"] == remembered["dense"] / 2


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_and_its_pictures_fit_the_screen(browser, reported, width):
    browser.open(reported / "report.html", width)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    shown = "[...document.querySelectorAll('svg')].filter(svg => svg.checkVisibility())"
    assert browser.evaluate(f"{shown}.length") == 4, "layers, BLEU, prompts and tokens"
    outside = f"{shown}.flatMap(svg => [...svg.querySelectorAll('text')].filter(text => text.getBoundingClientRect()"
    outside += ".right > svg.getBoundingClientRect().right + 1).map(text => text.textContent))"
    assert browser.evaluate(outside) == []


def test_texts_stand_beside_their_source(browser, reported, content):
    browser.open(reported / "report.html", 390)
    texts = browser.evaluate("[...document.querySelectorAll('.texts dl')].map(list => list.innerText)")
    assert len(texts) == len(content["writing"]["examples"]) == 5
    for text, example in zip(texts, content["writing"]["examples"], strict=True):
        assert example["source"] in text and example["references"][0] in text


def test_markdown_has_both_phases_of_every_artifact(reported, content):
    text = (reported / "report.md").read_text()
    for row in content["latency"]:
        line = next(line for line in text.splitlines() if line.startswith(f"| {row['artifact']} | 1 × 12 |"))
        for figure in (row["p50_ms"], row["decode"]["p50_ms"], row["decode"]["speedup"]["value"]):
            assert f"{figure:.2f}" in line
    assert "of the blocks' FLOPs saved at 12 tokens" in text
