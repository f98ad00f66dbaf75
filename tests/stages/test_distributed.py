"""torchrun with two processes on the CPU: the result of one process with twice the batch, written once."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import dsee_compress
from dsee_compress.store import resume
from dsee_compress.store.manifest import Manifest
from dsee_compress.weights import load_tensors

from ..fixtures import models, ranks

FINETUNE = {"epochs": 3, "learning_rate": 0.01, "rank": 2, "sparse": 4}
EVERYWHERE = {"targets": "query,key,value,attention_output,ffn_in,ffn_out", "rank_pattern": "0.key=0,ffn_in=3"}
PRUNE = {"heads": 0.25, "neurons": 0.3, "retune_epochs": 2, "learning_rate": 0.01}


def launch(*command: object) -> subprocess.CompletedProcess[str]:
    """Two processes of a program (`--no-python PATH`) or a script."""
    return run(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command)


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=300)


PROGRAM = ("--no-python", Path(sys.executable).with_name("dsee-compress"))


def shell(command: str, *arguments: object, **options: object) -> list[object]:
    flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    return [command, *arguments, *flags]


def same(one: Path, other: Path, tolerance: float) -> bool:
    tensors, others = load_tensors(one), load_tensors(other)
    assert tensors.keys() == others.keys()
    return all(
        torch.allclose(tensor.double(), others[name].double(), atol=tolerance, rtol=0)
        for name, tensor in tensors.items()
    )


def loss(folder: Path) -> float:
    return Manifest.read(folder).metrics.training.loss


@pytest.fixture(scope="module")
def still(tmp_path_factory) -> dict[str, Path]:
    """Small models without dropout, whose random numbers would depend on the number of processes."""
    root = tmp_path_factory.mktemp("still")
    for family in models.FAMILIES:
        path = models.write_model(family, root / family) / "config.json"
        off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        path.write_text(json.dumps(json.loads(path.read_text()) | off))
    return {family: root / family for family in models.FAMILIES}


@pytest.fixture(scope="module")
def one(still, data, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("one") / "finetune"
    return dsee_compress.finetune(
        model=str(still["bert"]), data=str(data), output=output, batch_size=32, **FINETUNE, **EVERYWHERE
    )


@pytest.fixture(scope="module")
def two(still, data, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("two") / "finetune"
    command = shell("finetune", model=still["bert"], data=data, output=output, batch_size=16, **FINETUNE, **EVERYWHERE)
    done = launch(*PROGRAM, *command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"wrote {output}") == done.stdout.count("validation accuracy") == 1
    assert done.stderr.count("validate and save") == 1
    return output


def test_two_processes_train_as_one_with_twice_the_batch(one, two):
    assert [path.name for path in two.parent.iterdir()] == ["finetune"]
    metrics = Manifest.read(two).metrics.training
    assert (metrics.processes, metrics.steps) == (2, 24)
    assert loss(two) == pytest.approx(loss(one), abs=1e-4)
    assert same(one / "base.safetensors", two / "base.safetensors", 0)
    assert same(one / "adapter.safetensors", two / "adapter.safetensors", 1e-5)


def test_a_model_without_pooler_and_updates_without_sparse_entries(still, data, tmp_path):
    """DistributedDataParallel refuses parameters that get no gradient."""
    options = {"model": still["roberta"], "data": data, "epochs": 2, "sparse": 0, "learning_rate": 0.01}
    done = ranks.run(*shell("finetune", output=tmp_path / "two", batch_size=16, **options))
    assert done.returncode == 0, done.stderr
    options |= {"model": str(still["roberta"]), "data": str(data)}
    dsee_compress.finetune(output=tmp_path / "one", batch_size=32, **options)
    assert same(tmp_path / "one" / "adapter.safetensors", tmp_path / "two" / "adapter.safetensors", 1e-5)


def test_two_processes_retune_as_one_with_twice_the_batch(one, tmp_path):
    done = ranks.run(*shell("prune", one, output=tmp_path / "two", batch_size=16, **PRUNE))
    assert done.returncode == 0, done.stderr
    dsee_compress.prune(one, output=tmp_path / "one", batch_size=32, **PRUNE)
    assert same(tmp_path / "one" / "model.safetensors", tmp_path / "two" / "model.safetensors", 1e-5)
    assert loss(tmp_path / "two") == pytest.approx(loss(tmp_path / "one"), abs=1e-4)


KILLED = """
import os, signal, sys, transformers
save, calls = transformers.Trainer._save_checkpoint, []
def deadly(self, *arguments):
    calls.append(1)
    save(self, *arguments)
    if len(calls) == 2 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
transformers.Trainer._save_checkpoint = deadly
from dsee_compress_cli.main import main
main()
"""


def test_a_killed_process_ends_the_others_and_the_same_command_goes_on(still, data, two, tmp_path):
    """Killed after its part of the second checkpoint: the first is the last whole one."""
    (tmp_path / "killed.py").write_text(KILLED)
    output = tmp_path / "out" / "finetune"
    command = shell("finetune", model=still["bert"], data=data, output=output, batch_size=16, **FINETUNE, **EVERYWHERE)
    killed = launch(tmp_path / "killed.py", *command)
    assert killed.returncode != 0 and signal.Signals.SIGKILL.name in killed.stderr
    assert {path.name for path in output.parent.iterdir() if path.is_dir()} <= {
        ".finetune.checkpoints",
        ".finetune.partial",
    }
    whole = output.parent.glob(".finetune.checkpoints/checkpoint-*/whole.json")
    assert [path.parent.name for path in whole] == ["checkpoint-8"]
    again = ranks.run(*command)
    assert again.returncode == 0, again.stderr
    assert same(output / "adapter.safetensors", two / "adapter.safetensors", 0)
    assert [path.name for path in output.parent.iterdir()] == ["finetune"]


def test_accelerate_trains_as_torchrun_does(still, data, two, tmp_path):
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    options = {"output": tmp_path / "finetune", "batch_size": 16, **FINETUNE, **EVERYWHERE}
    command = shell("finetune", model=still["bert"], data=data, **options)
    done = run(*accelerate, "--no_python", PROGRAM[1], *command)
    assert done.returncode == 0, done.stderr
    assert Manifest.read(tmp_path / "finetune").metrics.training.processes == 2
    assert same(tmp_path / "finetune" / "adapter.safetensors", two / "adapter.safetensors", 1e-6)


def test_a_whole_run_on_two_processes_is_written_once(still, data, tmp_path):
    recipe = {
        "finetune": {"model": str(still["bert"]), "data": str(data), "batch_size": 16, **FINETUNE},
        "prune": {**PRUNE, "batch_size": 16, "distill": True},
        "validate": {"max_compression_drop": 0.9, "max_drop": 0.9},
        "benchmark": {"samples": 10, "rounds": 2, "sequence_length": 16},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    done = ranks.run(*shell("run", tmp_path / "recipe.yaml", output=tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("choose S1") == 1
    assert Manifest.read(tmp_path / "run" / "prune").metrics.training.processes == 2
    assert json.loads((tmp_path / "run" / "report.json").read_text())["schema"] == 1
    assert ranks.run(*shell("run", tmp_path / "recipe.yaml", output=tmp_path / "run")).returncode == 0


def test_a_mistake_that_the_first_process_finds_ends_all(still, data, two):
    done = ranks.run(
        *shell("finetune", model=still["bert"], data=data, output=two, batch_size=8, **FINETUNE, **EVERYWHERE)
    )
    assert done.returncode != 0
    assert "batch_size was 16 and is now 8" in done.stderr
    assert "internal error" not in done.stderr and "wrote" not in done.stdout


def test_checkpoints_of_another_number_of_processes_are_not_resumed_from(tmp_path, monkeypatch):
    from dsee_compress import distributed

    state = resume.state(tmp_path / "made", {"rank": 8})
    (state / "checkpoint-1").mkdir()
    monkeypatch.setattr(distributed, "processes", lambda: 2)
    monkeypatch.setattr(resume, "_state", resume._state.__wrapped__)
    assert not (resume.state(tmp_path / "made", {"rank": 8}) / "checkpoint-1").exists()


ONCE = """
import os, sys
from dsee_compress import distributed
from dsee_compress.errors import UserError

@distributed.in_main
def inner():
    return os.environ["RANK"]

@distributed.in_main
def outer(value):
    print("outer runs")
    distributed.wait()
    return value, inner(), distributed.processes()

@distributed.in_main
def wrong():
    raise UserError("wrong")

assert distributed.processes() == 2 and distributed.is_main() == (os.environ["RANK"] == "0")
assert outer(os.environ["RANK"]) == ("0", "0", 1)
try:
    wrong()
except UserError as error:
    assert str(error) == "wrong"
    distributed.wait()
    print("told")
"""


def test_one_decides_and_all_know(tmp_path):
    (tmp_path / "once.py").write_text(ONCE)
    done = launch(tmp_path / "once.py")
    assert done.returncode == 0, done.stderr
    assert (done.stdout.count("outer runs"), done.stdout.count("told")) == (1, 2)


def test_one_process_waits_for_nobody():
    from dsee_compress import distributed

    assert distributed.processes() == 1 and distributed.is_main()
    distributed.wait()
    assert distributed.in_main(lambda: 3)() == 3
    assert (
        "torch"
        not in subprocess.run(
            [sys.executable, "-c", "import sys, dsee_compress.distributed as d; d.wait(); print(*sys.modules)"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
    )
