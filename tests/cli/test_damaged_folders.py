"""Stage folders whose files do not say what they should: exit code 2 and a sentence on what to write again."""

import json
import shutil

import pytest

import dsee_compress

from .shell import refused

MEASURED = {"samples": 10, "rounds": 1, "warmup": 0, "sequence_length": 8, "threads": 1}
GONE = object()


@pytest.fixture(scope="module")
def run(bert_tuned, tmp_path_factory):
    """A finetune, prune and export folder, validated and benchmarked."""
    root = tmp_path_factory.mktemp("run")
    pruned = dsee_compress.prune(bert_tuned, output=root / "prune", retune_epochs=0, heads=0.25)
    exported = dsee_compress.export(pruned, output=root / "export", precision="fp32")
    dsee_compress.validate(exported, max_compression_drop=1.0)
    dsee_compress.benchmark(exported, **MEASURED)
    return {"finetune": bert_tuned, "prune": pruned, "export": exported}


def change(path, where, value):
    """Set, or take out, what is at a dotted path of a JSON file."""
    content = json.loads(path.read_text())
    *above, last = where.split(".")
    place = content
    for name in above:
        place = place[int(name) if isinstance(place, list) else name]
    if value is GONE:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    path.write_text(json.dumps(content))


MANIFESTS = [
    ("prune", "structure.heads", []),
    ("prune", "structure.heads.0", [1, 1]),
    ("prune", "structure.neurons.0", [-1, 2]),
    ("prune", "structure", {}),
    ("prune", "metrics", {}),
    ("prune", "metrics.flops", [1, 2]),
    ("prune", "metrics.validation", {"beauty": 1.0}),
    ("finetune", "config", {}),
    ("finetune", "config.rank", "many"),
    ("finetune", "config.targets", ["nothing"]),
    ("finetune", "config.alpha", -1.0),
    ("finetune", "config.slimming", "x"),
    ("finetune", "metrics.training", None),
    ("export", "config", {}),
    ("export", "config.precision", ["fp99"]),
    ("export", "config.precision", "fp32"),
    ("export", "metrics", {}),
    ("export", "metrics.kind", 5),
    ("export", "metrics.target", GONE),
    ("export", "task", []),
    ("export", "task.labels", "good"),
    ("export", "schema", "one"),
    ("export", "parent", "x"),
    ("export", "stage", "cooking"),
]


@pytest.mark.parametrize("stage, where, value", MANIFESTS)
def test_a_manifest(shell, copy, run, tmp_path, stage, where, value):
    folder = copy(run[stage])
    change(folder / "dsee.json", where, value)
    commands = {
        "finetune": [("inspect",), ("validate",), ("prune", "--output", tmp_path / "o")],
        "prune": [("inspect",), ("validate",), ("export", "--output", tmp_path / "o")],
        "export": [("inspect",), ("benchmark",), ("bundle", "--output", tmp_path / "o"), ("report",)],
    }
    for command, *options in commands[stage]:
        refused(shell(command, folder, *options), "dsee.json is damaged; write the folder again")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("content", ["", "[]", "null", "5", '"x"', "[" * 100_000, '{"schema": null}', "\xff"])
def test_a_manifest_of_any_content(shell, copy, run, content):
    folder = copy(run["prune"])
    (folder / "dsee.json").write_text(content, encoding="latin-1")
    refused(shell("inspect", folder), "dsee.json is damaged; write the folder again")


@pytest.mark.parametrize(
    "stage, file, where, value, sentence",
    [
        ("finetune", "dsee.json", "config.rank", 99, "describes an update that does not fit the model"),
        ("finetune", "dsee.json", "config.rank", 2, "does not fit the model that its folder describes"),
        ("finetune", "dsee.json", "config.rank_pattern", {"9.query": 2}, "an update that does not fit the model"),
        ("finetune", "dsee.json", "structure.heads", [[0]], "are of different models"),
        ("prune", "dsee.json", "structure.heads.0", [77], "dsee.json and config.json are of different models"),
        ("prune", "dsee.json", "structure.neurons.2", [1000], "dsee.json and config.json are of different models"),
        ("prune", "config.json", "num_attention_heads", 0, "config.json is"),
        ("prune", "config.json", "hidden_size", "wide", "config.json is"),
        ("prune", "config.json", "num_hidden_layers", 1, "are of different models"),
        ("prune", "config.json", "vocab_size", -3, "config.json is"),
        ("prune", "config.json", "hidden_act", "swoosh", "config.json is"),
    ],
)
def test_files_that_do_not_fit_each_other(shell, copy, run, tmp_path, stage, file, where, value, sentence):
    folder = copy(run[stage])
    if where == "structure.heads":
        change(folder / file, "structure.neurons", [[0]])
    change(folder / file, where, value)
    refused(shell("export", folder, "--output", tmp_path / "o"), sentence)
    assert not (tmp_path / "o").exists()


RESULTS = [
    ("validation.json", "accuracy", {}),
    ("validation.json", "accuracy.pruned.ci95", [0.1]),
    ("validation.json", "accuracy.pruned", GONE),
    ("validation.json", "other_metrics", {}),
    ("validation.json", "metric", "beauty"),
    ("validation.json", "gates", [{}]),
    ("validation.json", "parity", {"x": 1.0}),
    ("validation.json", "examples", "many"),
    ("validation.json", "key", []),
    ("validation.json", "key.config.max_drop", None),
    ("benchmark.json", "latency", [{}]),
    ("benchmark.json", "latency.0.p50_ms", "fast"),
    ("benchmark.json", "latency.0.raw_ms", []),
    ("benchmark.json", "latency.0.speedup", GONE),
    ("benchmark.json", "size", []),
    ("benchmark.json", "size.0.artifact", "another"),
    ("benchmark.json", "reference", "another"),
    ("benchmark.json", "environment", {}),
    ("benchmark.json", "key.config.sequence_length", []),
]


@pytest.fixture
def measured(run, tmp_path):
    """A copy of the folders in which the export still knows what it was made from."""
    whole = shutil.copytree(run["prune"].parent, tmp_path / "run")
    shutil.copytree(run["finetune"], tmp_path / run["finetune"].name)
    change(whole / "prune" / "dsee.json", "parent.path", f"../../{run['finetune'].name}")
    return whole / "export"


@pytest.mark.parametrize("file, where, value", RESULTS)
def test_a_result(shell, measured, file, where, value):
    change(measured / file, where, value)
    command = "validate" if file == "validation.json" else "benchmark"
    refused(shell("report", measured), f"{file} is damaged; run dsee-compress {command} {measured} again")


def test_a_damaged_result_is_no_result(shell, measured):
    """The sentence says to run the command again, which then has to measure again."""
    code, printed = shell("report", measured)
    assert code == 0 and printed.startswith("✓ write the report") and printed.count("\n") == 1
    change(measured / "validation.json", "accuracy", {})
    assert shell("validate", measured, "--max-compression-drop", 1.0)[0] == 0
    assert shell("report", measured)[0] == 0


def test_a_validation_without_what_the_folder_was_made_from(shell, measured):
    change(measured / "validation.json", "accuracy.pruned", GONE)
    for part in ("other_metrics", "predictions"):
        change(measured / "validation.json", f"{part}.pruned", GONE)
    refused(shell("report", measured), "knows nothing of what the folder was made from; run dsee-compress validate")
