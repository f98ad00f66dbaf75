"""Mistakes in a recipe, an installation or the command itself: exit code 2 and one sentence (DESIGN section 10)."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from .shell import refused


def recipe(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    "content, sentence",
    [
        ({"finetune": {"rnak": 8}}, "unknown option 'finetune.rnak'; did you mean 'rank'?"),
        ({"fine_tune": {}}, "unknown option 'fine_tune'; did you mean 'finetune'?"),
        ({"prune": {}}, "option 'finetune' is missing"),
        ({"finetune": {"data": "x"}}, "option 'finetune.model' is missing"),
        ({"finetune": {"model": "x", "data": "x", "rank": "eight"}}, "finetune.rank: input should be a valid integer"),
        ({"finetune": {"model": "x", "data": "x"}, "validate": {"splt": 1}}, "did you mean 'split'?"),
        ("- a\n- b\n", "must map stages (finetune, prune, export, validate, benchmark)"),
        ("finetune: {model: [", "is not YAML"),
        ("finetune: {model: x, data: 2024-13-45}", "is not YAML: month must be in 1..12"),
        ({"finetune": {"model": "x", "data": "x"}, "prune": "hello"}, "prune: input should be a valid dictionary"),
    ],
)
def test_wrong_recipe(shell, tmp_path, content, sentence):
    result = shell("run", recipe(tmp_path, content), "--output", tmp_path / "run")
    refused(result, sentence)
    assert str(tmp_path / "recipe.yaml") in result[1]


def test_no_such_recipe(shell, tmp_path):
    refused(shell("run", tmp_path / "none.yaml", "--output", tmp_path / "run"), "there is no recipe")


@pytest.mark.parametrize(
    "setting, sentence",
    [
        ("prune.heads", "write it as stage.option=value"),
        ("heads=0.5", "write it as stage.option=value"),
        ("prune.head=0.5", "unknown option 'prune.head'; did you mean 'heads'?"),
        ("prune.heads=half", "prune.heads: input should be a valid number"),
        ("benchmark.sequence_length=500", "benchmark.sequence_length 500 is more than the 140 tokens"),
        (
            "prune.criterion=slimming",
            "prune.criterion slimming needs the coefficients of finetune.slimming, which is 0",
        ),
        ("prune.sequence_length=500", "prune.sequence_length 500 is more than the 140 tokens"),
        ("finetune.targets=ffn_in", "prune.criterion delta scores heads by the updates of finetune.targets query"),
        ("prune.flops_saved=0.99", "flops_saved 0.99 is out of reach: at most"),
        ("prune.semi_structured=2:7", "semi_structured 2:7 does not fit: rows of 32 weights do not divide"),
        ("benchmark.baseline=/nowhere", "there is no folder /nowhere"),
        ("benchmark.provider=cuda", "provider cuda was asked for"),
        ("validate.data=./nowhere", "there is no data folder ./nowhere"),
        ("validate.split=test", "has no test split"),
        ("finetune.rank_pattern={kwery: 3}", "'kwery' matches no target"),
        ("finetune.text=nope", "has no column 'nope'"),
        ("finetune.metric=spearman", "metric spearman is not of classification"),
        ("finetune.task=regression", "regression needs numbers"),
        ("finetune.data=2024-13-45", "'2024-13-45' is not a value"),
        ("benchmark.compare=/nowhere", "/nowhere has no ONNX model to compare with"),
        ("validate.length_penalty=0.9", "length_penalty 0.9 is about the scores of beams, and beams is 1"),
    ],
)
def test_wrong_setting(shell, tmp_path, bert, data, setting, sentence):
    content = {"finetune": {"model": str(bert), "data": str(data)}}
    if setting.startswith("finetune.targets"):
        content["prune"] = {"criterion": "delta"}
    refused(shell("run", recipe(tmp_path, content), "--output", tmp_path / "run", "--set", setting), sentence)


def test_a_setting_of_what_is_no_section(shell, tmp_path):
    path = recipe(tmp_path, {"finetune": {"model": "x", "data": "x"}, "prune": "hello"})
    result = shell("run", path, "--output", tmp_path / "run", "--set", "prune.heads=0.5")
    refused(result, "the recipe's prune maps no options to values, but is 'hello'")


@pytest.mark.parametrize("section", ["finetune", "prune"])
def test_smoothed_numbers(shell, tmp_path, section):
    content = {"finetune": {"model": "x", "data": "x", "task": "regression"}}
    content.setdefault(section, {})["label_smoothing"] = 0.1
    refused(
        shell("run", recipe(tmp_path, content), "--output", tmp_path / "run"),
        f"{section}.label_smoothing is about classes and tokens, not the numbers of regression",
    )


@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_what_stands_where_a_run_writes(shell, tmp_path, bert, data, bert_tuned, dry):
    path = recipe(tmp_path, {"finetune": {"model": str(bert), "data": str(data)}})
    file, own = tmp_path / "file", tmp_path / "run"
    file.write_text("mine")
    (own / "dense").mkdir(parents=True)
    (own / "dense" / "thesis.txt").write_text("mine")
    refused(shell("run", path, "--output", file, *dry), "is a file; give a folder for the run")
    refused(shell("run", path, "--output", own, "--overwrite", *dry), "dense already exists and is not a stage folder")
    shutil.rmtree(own / "dense")
    shutil.copytree(bert_tuned, own / "export")
    refused(shell("run", path, "--output", own, "--overwrite", *dry), "export already holds the output of finetune")
    assert {path.name for path in own.iterdir()} == {"export"} and file.read_text() == "mine"


def test_run_into_a_stage_folder(shell, tmp_path, bert, data, bert_tuned):
    path = recipe(tmp_path, {"finetune": {"model": str(bert), "data": str(data)}})
    refused(shell("run", path, "--output", bert_tuned), "is a stage folder; give another folder for the run")


def test_adapters_that_cannot_come_in_or_go_out(shell, bert, bert_tuned, data, tmp_path):
    given = ["--model", bert, "--data", data, "--output", tmp_path / "out"]
    refused(shell("import-peft", data, *given), "is no PEFT adapter: it has no adapter_config.json")
    refused(shell("export-peft", bert_tuned, "--output", tmp_path / "out"), "fine-tune with --sparse 0")
    refused(shell("export-peft", bert, "--output", tmp_path / "out"), "is not a stage folder")
    assert not (tmp_path / "out").exists()


def test_missing_argument(shell):
    refused(shell("prune", "--output", "x"), "Missing argument")


def test_no_onnx_runtime(bert_pruned, tmp_path):
    """In a process where importing it fails, as where it is not installed."""
    code = "import sys; sys.modules['onnxruntime'] = None\nfrom dsee_compress_cli.main import main; main()"
    arguments = ["export", str(bert_pruned), "--output", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "error: ONNX Runtime is not installed; pip install 'dsee-compress[cpu]' (or [gpu] for CUDA)"
    )


def test_a_crash_of_our_own_exits_with_1_and_a_gate_with_3(shell, bert_tuned, tmp_path, monkeypatch):
    from dsee_compress.errors import GateError
    from dsee_compress.pruning import surgery

    def broken(error):
        def remove(model, structure):
            raise error

        return remove

    arguments = ["prune", bert_tuned, "--output", tmp_path / "out", "--retune-epochs", 0]
    monkeypatch.setattr(surgery, "remove", broken(ZeroDivisionError("oh")))
    code, printed = shell(*arguments)
    assert code == 1 and "internal error (ZeroDivisionError): oh" in printed and "Traceback" not in printed
    monkeypatch.setattr(surgery, "remove", broken(GateError("gate 'removal' failed")))
    assert shell(*arguments)[0] == 3


def test_debug_shows_the_traceback(tmp_path):
    command = [sys.executable, "-m", "dsee_compress_cli.main", "inspect", str(tmp_path / "none"), "--debug"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" in done.stderr and "error: there is no folder" in done.stderr


def test_nothing_is_left_by_a_refusal(shell, small, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    shell(*small, "--rank", 33)
    shell(*small, "--max-length", 500)
    assert sorted(tmp_path.rglob("*")) == before
