"""A generation recipe as a whole, and what its report says of it."""

import json
import math
from pathlib import Path

import onnx
import pytest
import yaml
from dsee_compress_cli import main as cli

import dsee_compress
from dsee_compress import architectures
from dsee_compress.evaluation import shares
from dsee_compress.exporting.precision import DECODER, Rules
from dsee_compress.store.manifest import Manifest

from ..fixtures import decoder_stages, decoders, models
from ..fixtures.graphs import lower, write

STAGES = {
    "prune": {"flops_saved": 0.3, "allocation": "global", "retune_epochs": 1, "batch_size": 16},
    "export": {"precision": ["fp32", "int8"]},
    "validate": {"split": "test", "max_drop": 0.9, "max_compression_drop": 0.95, "max_new_tokens": 12},
    "benchmark": {"sequence_length": [12, 8], "new_tokens": 4, "samples": 10, "rounds": 2, "threads": 1},
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("recipe")
    data = models.write_generation_data(root / "data", train=64, validation=12)
    training = {"epochs": 3, "batch_size": 16, "learning_rate": 1e-2}
    finetune = {"model": str(models.write_gpt2(root / "gpt2")), "data": str(data), "task": "generation"} | training
    (root / "recipe.yaml").write_text(yaml.safe_dump({"finetune": finetune} | STAGES))
    return root / "recipe.yaml"


@pytest.fixture(scope="module")
def finished(recipe) -> Path:
    assert cli._run(["run", str(recipe), "--output", str(recipe.parent / "run")], debug=True) == 0
    return recipe.parent / "run"


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def test_the_report_has_the_figures_of_the_stage_folders(finished):
    report = read(finished / "report.json")
    validation, benchmark = (read(finished / "export" / f"{name}.json") for name in ("validation", "benchmark"))
    tuned, pruned, exported = (Manifest.read(finished / name) for name in ("finetune", "prune", "export"))
    assert report["task"]["metric"] == "bleu" and report["task"]["split"] == "test"
    assert report["accuracy"] == validation["accuracy"] and report["gates"] == validation["gates"]
    assert report["latency"] == benchmark["latency"] and report["latency_grid"] == benchmark["grid"]
    assert [row["artifact"] for row in report["latency"]] == ["dense_fp32", "pruned_fp32", "pruned_int8"]
    assert report["cost"]["parameters"]["final"] == pruned.metrics.parameters
    assert report["cost"]["flops"]["sequence_length"] == 12
    assert report["cost"]["flops"]["exported"] == report["cost"]["flops"]["final"]
    remembered = report["writing"]["memory_bytes_per_token"]
    assert remembered["final"] == exported.metrics.memory_bytes_per_token
    assert remembered["dense"] == Manifest.read(finished / "dense").metrics.memory_bytes_per_token
    assert sum(pruned.structure.head_counts) < sum(tuned.structure.head_counts)


def test_the_report_shows_texts_beside_their_sources(finished):
    writing = read(finished / "report.json")["writing"]
    written = read(finished / "export" / "validation.json")["predictions"]
    rows = [json.loads(line) for line in (finished.parent / "data" / "test.jsonl").read_text().splitlines()]
    assert writing["decoding"]["max_new_tokens"] == 12
    assert [example["source"] for example in writing["examples"]] == [row["source"] for row in rows[::3]]
    for index, example in zip(range(0, 12, 3), writing["examples"], strict=True):
        assert example["references"] == rows[index]["targets"]
        assert example["texts"] == {name: texts[index] for name, texts in written.items()}


def test_a_second_run_starts_nothing(finished, recipe):
    def seen() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in finished.rglob("*") if not path.name.startswith("report.")}

    before = {path: time for path, time in seen().items() if path.is_file()}
    assert cli._run(["run", str(recipe), "--output", str(finished)], debug=True) == 0
    assert {path: time for path, time in seen().items() if path.is_file()} == before


def test_inspect_names_the_prompt_and_the_cache(finished, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert cli._run(["inspect", str(finished / "export")], debug=True) == 0
    shown = capsys.readouterr().out
    assert "generation (bleu), prompt '{source}\\n'" in shown and "0 labels" not in shown
    assert "memory_bytes_per_token" in shown


@pytest.mark.parametrize("search", [{"batch_size": 1}, {"beams": 3, "length_penalty": 0.9, "batch_size": 2}])
def test_generate_prints_a_text_a_line(search, finished, capsys):
    """In the same batches: int8 takes one scale for all that is read together."""
    sources = ["name : Aromi", "name : The Mill | food : French", "food : French"]
    options = {**search, "max_new_tokens": 8, "precision": "int8"}
    written = dsee_compress.generate(finished / "export", sources, **options)
    given = [str(part) for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    prompts = [part for source in sources for part in ("--prompt", source)]
    capsys.readouterr()
    assert cli._run(["generate", str(finished / "export"), *prompts, *given], debug=True) == 0
    assert capsys.readouterr().out.split() == " ".join(written).split()


@pytest.mark.parametrize(
    "options, words",
    [
        (["--top-p", "0.3"], "top_p 0.3 is about random choices, and temperature is 0"),
        (["--length-penalty", "2"], "length_penalty 2.0 is about the scores of beams, and beams is 1"),
        (["--temperature", "1", "--beams", "2"], "temperature draws at random, and beams search for the best"),
    ],
)
def test_options_of_another_search_are_refused(options, words, finished, capsys):
    assert cli._run(["generate", str(finished / "export"), "--prompt", "name : Aromi", *options], debug=False) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "setting, words",
    [
        ("export.precision=[int8_static]", "precision int8_static is not there for gpt2"),
        ("benchmark.sequence_length=138", "benchmark.sequence_length and benchmark.new_tokens, in sum 142 is more"),
        ("finetune.max_length=12", "leaves no room for a target in max_length 12"),
        ("validate.data=.", "no target column"),
    ],
)
def test_what_would_stop_a_run_late_is_said_before_it_starts(setting, words, recipe, tmp_path, capsys, monkeypatch):
    models.write_jsonl(tmp_path / "test.jsonl", [{"source": "name : Aromi", "text": "a place"}])
    monkeypatch.chdir(tmp_path)
    assert cli._run(["run", str(recipe), "--output", str(tmp_path / "run"), "--set", setting], debug=False) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("style, opset", [("fused", 18), ("portable", 23)])
@pytest.mark.parametrize("family", decoders.FAMILIES)
def test_every_weight_of_a_graph_is_found_in_its_part(family, style, opset, tmp_path):
    """In fp32 to the byte; in lower precisions all products are found, and the vocabulary."""
    model = decoder_stages.pruned(family)
    write(model, tmp_path / "model.onnx", style, opset)
    whole = shares.megabytes(tmp_path / "model.onnx")
    attention, ffn = {"gpt2": ("attn", "mlp"), "llama": ("self_attn", "mlp")}[family]
    layers = [layer.module for layer in architectures.layers(model)]
    shapes = {entry.name: list(entry.dims) for entry in onnx.load(tmp_path / "model.onnx").graph.initializer}
    angles = sum(math.prod(shape) for name, shape in shapes.items() if "lifted_tensor" in name)
    for part, name, beside in (("attention", attention, angles), ("ffn", ffn, 0)):
        weights = sum(weight.numel() for layer in layers for weight in layer.get_submodule(name).parameters())
        assert whole[part] == pytest.approx((weights + beside) * 4e-6)
    looked_up = [module.weight.numel() for module in model.modules() if type(module).__name__ == "Embedding"]
    assert whole["embeddings"] == pytest.approx(sum(looked_up) * 4e-6)
    # The exporter turns a tied matrix as small as this one into another for the head.
    assert [*model.lm_head.weight.T.shape] in shapes.values()
    assert whole["task_head"] == pytest.approx(model.lm_head.weight.numel() * 4e-6)
    for bits, most in (("int8", 0.45), ("int4", 0.45)):
        path = tmp_path / f"{bits}.onnx"
        lower(tmp_path / "model.onnx", path, bits, Rules(False, False, 16), list, DECODER)
        parts = shares.megabytes(path)
        assert all(parts[part] < most * whole[part] for part in whole)
        assert all(parts[part] for part in ("attention", "ffn"))
        blocks = [t for t in onnx.load(path).graph.initializer if t.name.endswith(("_Q8", "_Q4"))]
        assert sum(parts.values()) * 1e6 > sum(len(tensor.raw_data) for tensor in blocks)
