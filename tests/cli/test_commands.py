"""What a user sees in a terminal."""

import json
import subprocess
import sys

import pytest
import yaml
from dsee_compress_cli import main as cli

import dsee_compress
from dsee_compress.configs import (
    BenchmarkConfig,
    BundleConfig,
    ExportConfig,
    FinetuneConfig,
    ImportPeftConfig,
    PruneConfig,
    PushConfig,
    ValidateConfig,
)
from dsee_compress.store.manifest import Manifest
from dsee_compress.weights import load_tensors

CONFIGS = {
    "finetune": FinetuneConfig,
    "prune": PruneConfig,
    "export": ExportConfig,
    "validate": ValidateConfig,
    "benchmark": BenchmarkConfig,
    "bundle": BundleConfig,
}
COMMANDS = {**CONFIGS, "push": PushConfig}
FUNCTIONS = {**COMMANDS, "import_peft": ImportPeftConfig}


def run(capsys, *arguments: object) -> str:
    code = cli._run([str(argument) for argument in arguments], debug=False)
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return printed.out


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from dsee_compress_cli.main import _run; _run(['--help'], False)\n"
        "heavy = {'torch', 'transformers', 'onnxruntime', 'numpy', 'datasets', 'matplotlib'} & sys.modules.keys()\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    others = ["report", "push", "run", "inspect", "import-peft", "export-peft"]
    positions = [done.stdout.index(f"│ {name} ") for name in [*CONFIGS, *others]]
    assert positions == sorted(positions), "in the order of the pipeline"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_every_option_with_its_default(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "200")
    code = cli._run([command, "--help"], debug=False)
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert code == 0
    for name, field in COMMANDS[command].model_fields.items():
        assert f"--{name.replace('_', '-')}" in shown
        if not field.is_required() and field.default is not None and not isinstance(field.default, list):
            assert f"(default: {field.default})" in shown


@pytest.mark.parametrize("command", FUNCTIONS)
def test_functions_have_the_options_of_their_command(command):
    import inspect

    parameters = inspect.signature(getattr(dsee_compress, command)).parameters
    for name, field in FUNCTIONS[command].model_fields.items():
        expected = inspect.Parameter.empty if field.is_required() else field.default
        assert parameters[name].default == expected
        assert field.description in getattr(dsee_compress, command).__doc__


def test_the_whole_way_by_hand(capsys, bert, data, tmp_path, monkeypatch):
    """Each command, its table, and its last line, which names the folder."""
    tuned, pruned, onnx, dense = (tmp_path / name for name in ("tuned", "prune", "export", "dense"))
    shell = [
        (
            "finetune",
            "--model",
            bert,
            "--data",
            data,
            "--output",
            tuned,
            "--epochs",
            4,
            "--learning-rate",
            0.01,
            "--rank-pattern",
            "query=4",
            "--rank-pattern",
            "1.value=2,2.value=3",
        ),
        ("prune", tuned, "--output", pruned, "--heads", 0.5, "--retune-epochs", 1),
        ("export", tuned, "--output", dense, "--precision", "fp32"),
        ("export", pruned, "--output", onnx, "--precision", "fp32", "--precision", "int8"),
        ("validate", onnx, "--data", data, "--max-drop", 0.9, "--max-compression-drop", 0.9),
        ("benchmark", onnx, "--baseline", dense, "--samples", 10, "--rounds", 1, "--sequence-length", 16),
        ("bundle", onnx, "--output", tmp_path / "bundle", "--precision", "fp32"),
        ("report", onnx),
    ]
    for command in shell:
        output = run(capsys, *command)
        folder = command[command.index("--output") + 1] if "--output" in command else command[1]
        assert output.splitlines()[-1] == f"wrote {folder}"
    assert Manifest.read(tuned).config["rank_pattern"] == {"query": 4, "1.value": 2, "2.value": 3}
    monkeypatch.setenv("COLUMNS", "200")
    shown = run(capsys, "inspect", pruned)
    for word in ("layer 2", "model.safetensors", "tuned", "heads", "removal_max_abs"):
        assert word in shown
    assert (onnx / "report.html").is_file()
    assert {path.name for path in onnx.iterdir()} >= {"model.onnx", "model_int8.onnx", "tokenizer.json", "config.json"}


def test_adapters_go_out_to_peft_and_come_back(capsys, bert, data, tmp_path):
    tuned, out, back = (tmp_path / name for name in ("tuned", "lora", "back"))
    given = ("--model", bert, "--data", data)
    run(capsys, "finetune", *given, "--output", tuned, "--epochs", 1, "--sparse", 0)
    assert run(capsys, "export-peft", tuned, "--output", out).splitlines()[-1] == f"wrote {out}"
    shown = run(capsys, "import-peft", out, *given, "--output", back)
    assert shown.splitlines()[-1] == f"wrote {back}" and "bad, good" in shown
    ours, again = (load_tensors(folder / "adapter.safetensors") for folder in (tuned, back))
    assert ours.keys() == again.keys() and all((ours[name] == again[name]).all() for name in ours)


@pytest.fixture
def recipe(bert, data, tmp_path):
    path = tmp_path / "recipe.yaml"
    content = {
        "finetune": {"model": str(bert), "data": str(data), "epochs": 2, "learning_rate": 0.01},
        "prune": {"retune_epochs": 1},
        "validate": {"max_drop": 0.9, "max_compression_drop": 0.9},
        "benchmark": {"samples": 10, "rounds": 1, "warmup": 1, "sequence_length": 16},
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_dry_run_checks_and_shows_the_plan_and_writes_nothing(capsys, recipe, tmp_path):
    shown = run(capsys, "run", recipe, "--output", tmp_path / "run", "--dry-run")
    assert shown.count("to do") == 7 and "is there" not in shown
    assert not (tmp_path / "run").exists()


def test_run_writes_the_report_by_schema_and_the_second_run_does_nothing(capsys, recipe, tmp_path, monkeypatch):
    out = tmp_path / "run"
    assert run(capsys, "run", recipe, "--output", out, "--set", "prune.heads=0.5").splitlines()[-1] == f"wrote {out}"
    report = json.loads((out / "report.json").read_text())
    assert report["schema"] == 1
    assert sum(report["structure"]["heads"]) == 6
    assert report["cost"]["flops"]["saved"] == pytest.approx(
        1 - report["cost"]["flops"]["final"] / report["cost"]["flops"]["dense"]
    )
    assert list(report["accuracy"]) == ["dense_finetuned", "pruned", "onnx_fp32", "onnx_int8"]
    assert [row["artifact"] for row in report["latency"]] == ["dense_fp32", "pruned_fp32", "pruned_int8"]
    assert report["latency"][0]["speedup"]["value"] == 1.0
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.parent != out}
    from dsee_compress.training import trainer

    monkeypatch.setattr(trainer, "train", None)
    run(capsys, "run", recipe, "--output", out, "--set", "prune.heads=0.5")
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_run_with_a_changed_option_names_it_and_overwrite_replaces(capsys, recipe, tmp_path):
    out = tmp_path / "run"
    run(capsys, "run", recipe, "--output", out)
    code = cli._run(["run", str(recipe), "--output", str(out), "--set", "prune.retune_epochs=3"], debug=False)
    assert code == 2
    assert "retune_epochs was 1 and is now 3" in capsys.readouterr().err
    run(capsys, "run", recipe, "--output", out, "--set", "prune.neurons=0.1", "--overwrite")
    assert sum(json.loads((out / "report.json").read_text())["structure"]["neurons"]) == 108


def test_recipe_paths_are_beside_the_recipe(bert, data, tmp_path, monkeypatch):
    from pathlib import Path

    from dsee_compress.stages.run import read_recipe

    (tmp_path / "here").mkdir()
    here = tmp_path / "here"
    (here / "data").symlink_to(data)
    (here / "board.yaml").write_text("")
    for folder in ("one", "other", "mobile", "a,b"):
        (here / folder).mkdir()
    path = here / "recipe.yaml"
    content = (
        "finetune: {model: bert-base-uncased, data: data}\n"
        "export: {target: TARGET, trim_vocabulary: 'a,b'}\n"
        "benchmark: {compare: OTHERS}"
    )
    monkeypatch.chdir("/")
    for target, others, compared in (
        ("board.yaml", "[one, /far]", [str(here / "one"), "/far"]),
        ("mobile", '"one,other"', [str(here / "one"), str(here / "other")]),
        ("mobile", "[one]", [str(here / "one")]),
    ):
        path.write_text(content.replace("TARGET", target).replace("OTHERS", others))
        config = read_recipe(path, [])
        assert Path(config.finetune.data) == here / "data"
        assert config.finetune.model == "bert-base-uncased"
        assert config.export.target == (str(here / target) if target == "board.yaml" else "mobile")
        assert config.export.trim_vocabulary == str(here / "a,b")
        assert config.benchmark.compare == compared
