"""SIGKILL in the middle of every stage; the same command again ends in the same result, nothing half-written left."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dsee_compress import checkpoint

FINETUNE = {"epochs": 3, "batch_size": 32, "learning_rate": 0.01, "rank": 2, "sparse": 4}
PRUNE = {"heads": 0.25, "neurons": 0.3, "retune_epochs": 3, "batch_size": 32, "learning_rate": 0.01}
REST = {
    "export": {"precision": ["fp32", "int8"]},
    "validate": {"max_drop": 0.9, "max_compression_drop": 0.9},
    "benchmark": {"samples": 10, "rounds": 1, "warmup": 0, "sequence_length": 16, "threads": 1},
}

# Where the process kills itself: after `skip` calls of a function, before or after the next one.
KILLS = {
    "finetune: before the first checkpoint": ("transformers.Trainer._save_checkpoint", 0, "before"),
    "finetune: checkpoint written, not yet marked": ("transformers.Trainer._save_checkpoint", 1, "after"),
    "finetune: weights written, no manifest": ("dsee_compress.checkpoint.write_manifest", 0, "before"),
    "finetune: manifest written, not renamed": ("dsee_compress.checkpoint.write_manifest", 0, "after"),
    "dense export: plain graph written": ("dsee_compress.exporting.graph.to_onnx", 0, "after"),
    "prune: in the retune": ("transformers.Trainer._save_checkpoint", 4, "after"),
    "prune: removed, not yet saved": ("dsee_compress.pruning.surgery.remove", 0, "after"),
    "export: before int8": ("dsee_compress.exporting.precision.dynamic_int8", 0, "before"),
    "validate: before its result": ("dsee_compress.evaluation.bootstrap.bootstrap", 0, "before"),
    "benchmark: timed, not written": ("dsee_compress.evaluation.latency.measure", 0, "after"),
    "report: json written, no page": ("dsee_compress.reporting.render.markdown", 0, "before"),
}

RUNNER = """
import importlib, os, signal, sys
where, skip, when, arguments = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]
if where:
    import transformers
    path, name = where.rsplit(".", 1)
    try:
        owner = importlib.import_module(path)
    except ModuleNotFoundError:
        module, cls = path.rsplit(".", 1)
        owner = getattr(importlib.import_module(module), cls)
    original, calls = getattr(owner, name), []
    def deadly(*a, **k):
        calls.append(1)
        if len(calls) > skip and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*a, **k)
        if len(calls) > skip:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, deadly)
sys.argv = ["dsee-compress", *arguments]
from dsee_compress_cli.main import main
main()
"""


def command(recipe: Path, run: Path, kill: tuple[str, int, str] = ("", 0, "")) -> subprocess.CompletedProcess[str]:
    arguments = [*map(str, kill), "run", str(recipe), "--output", str(run)]
    return subprocess.run([sys.executable, "-c", RUNNER, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def recipe(bert, data, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    finetune = {"model": str(bert), "data": str(data), **FINETUNE}
    path.write_text(yaml.safe_dump({"finetune": finetune, "prune": PRUNE, **REST}))
    return path


def result_of(run: Path) -> dict:
    """What must not depend on a kill: the weights and graphs of every stage, and what was measured on them."""
    report = json.loads((run / "report.json").read_text())
    return {
        **{stage: checkpoint.fingerprint(run / stage) for stage in ("finetune", "dense", "prune", "export")},
        "accuracy": report["accuracy"],
        "structure": report["structure"],
        "cost": report["cost"],
    }


@pytest.fixture(scope="module")
def undisturbed(recipe, tmp_path_factory) -> dict:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    done = command(recipe, run)
    assert done.returncode == 0, done.stderr
    return result_of(run)


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS.keys())
def test_killed_and_started_again(recipe, undisturbed, tmp_path, kill):
    run = tmp_path / "run"
    killed = command(recipe, run, kill)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    for folder in run.iterdir():
        if not folder.name.startswith("."):
            assert folder.name == "report.json" or checkpoint.read(folder), "a visible folder is a whole one"
    again = command(recipe, run)
    assert again.returncode == 0, again.stderr
    assert result_of(run) == undisturbed
    assert {path.name for path in run.iterdir()} == {
        *("finetune", "dense", "prune", "export"),
        *("report.json", "report.md", "report.html"),
    }
    assert not list(run.rglob(".*"))


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_training_says_how_to_go_on_and_keeps_its_checkpoint(recipe, tmp_path, number, code):
    run = tmp_path / "run"
    stopper = RUNNER.replace("signal.SIGKILL", f"signal.Signals({int(number)})")
    arguments = ["transformers.Trainer._save_checkpoint", "1", "after", "run", str(recipe), "--output", str(run)]
    stopped = subprocess.run([sys.executable, "-c", stopper, *arguments], capture_output=True, text=True, check=False)
    assert stopped.returncode == code, stopped.stderr
    assert "run the same command again to go on" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert {path.name for path in run.iterdir()} == {".finetune.checkpoints"}
    assert list((run / ".finetune.checkpoints").glob("checkpoint-*/whole.json"))
