"""Kills, stops, double writers and a disk that takes no more: the short form of `python -m tests.robustness.kill`."""

import importlib
import os
import resource
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from . import forked, kill, together
from .commands import STAGES
from .trials import Trial, require_same, require_sentence, require_whole
from .workshop import Workshop

# Where a command of a stage gets a signal: before or after the call of a function that follows `skip` others.
PLACES = {
    "finetune: before the first checkpoint": ("transformers.Trainer._save_checkpoint", 0, "before"),
    "finetune: checkpoint written, not yet marked": ("transformers.Trainer._save_checkpoint", 1, "after"),
    "finetune: weights written, no manifest": ("dsee_compress.store.manifest.Manifest.write", 0, "before"),
    "finetune: manifest written, not renamed": ("dsee_compress.store.manifest.Manifest.write", 0, "after"),
    "prune: in the retune": ("transformers.Trainer._save_checkpoint", 1, "after"),
    "prune: removed, not yet saved": ("dsee_compress.pruning.surgery.remove", 0, "after"),
    "export: plain graph written": ("dsee_compress.exporting.graph.to_onnx", 0, "after"),
    "export: before int8": ("dsee_compress.exporting.passes.dynamic.quantise", 0, "before"),
    "validate: before its result": ("dsee_compress.evaluation.bootstrap.bootstrap", 0, "before"),
    "benchmark: timed, not written": ("dsee_compress.evaluation.latency.measure", 0, "after"),
    "report: json written, no page": ("dsee_compress.reporting.render.markdown", 0, "before"),
}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    forked.preload()
    return Workshop(tmp_path_factory.mktemp("robustness") / "workshop")


def signalled(where: str, skip: int, when: str, number: int = signal.SIGKILL) -> None:
    """To be called in a command's process: it sends itself a signal before or after a call of the function `where`."""
    path, name = where.rsplit(".", 1)
    try:
        owner: Any = importlib.import_module(path)
    except ModuleNotFoundError:
        module, cls = path.rsplit(".", 1)
        owner = getattr(importlib.import_module(module), cls)
    original, calls = getattr(owner, name), []

    def deadly(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == skip + 1 and when == "before":
            os.kill(os.getpid(), number)
        result = original(*arguments, **options)
        if len(calls) == skip + 1:
            os.kill(os.getpid(), number)
        return result

    setattr(owner, name, deadly)


def passed(trial: Trial) -> bool:
    """Whether nothing was wrong in a trial; what was is the assertion's message."""
    assert not trial.faults, str(trial)
    return True


@pytest.mark.parametrize("place", PLACES)
def test_killed_and_started_again(workshop, place):
    trial = Trial(0, "kill", STAGES[place.partition(":")[0]], 0)
    workshop.empty(trial.stage)
    killed = workshop.start(trial.stage, first=partial(signalled, *PLACES[place])).wait()
    assert killed.code == -signal.SIGKILL, killed.stderr
    require_whole(trial, workshop, (0,), None)
    again = workshop.start(trial.stage).wait()
    assert again.code == 0, again.stderr
    require_same(trial, workshop, 0)
    assert passed(trial)


def test_a_killed_run_goes_on(workshop):
    trial = Trial(0, "kill", STAGES["run"], 0)
    weights = {name: workshop.reference(STAGES[name], 0)["out"] for name in ("finetune", "prune")}
    workshop.empty(trial.stage)
    killed = workshop.start(trial.stage, first=partial(signalled, *PLACES["prune: removed, not yet saved"])).wait()
    assert killed.code == -signal.SIGKILL, killed.stderr
    assert {path.name for path in (workshop.work / "out").iterdir() if not path.name.startswith(".")} == {
        *("finetune", "dense"),
    }
    again = workshop.start(trial.stage).wait()
    assert again.code == 0, again.stderr
    assert "fine-tune" not in again.stderr, "what was done is done again"
    view = trial.stage.view(workshop.work)
    assert view.keys() == {*trial.stage.outputs}
    for name, file in (("finetune", "adapter.safetensors"), ("prune", "model.safetensors")):
        assert view[f"out/{name}"][file] == weights[name][file]
    assert not [*workshop.litter()]


@pytest.mark.parametrize("number", range(8))
def test_killed_before_an_operation_on_files(workshop, number):
    trial = Trial(0, "kills at operations", STAGES["bundle"], number)
    kill.kill(trial, workshop, at_operation=True)
    assert passed(trial)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_training_says_how_to_go_on_and_keeps_its_checkpoint(workshop, number, code):
    stage = STAGES["finetune"]
    workshop.empty(stage)
    where = ("transformers.Trainer._save_checkpoint", 1, "after", number)
    stopped = workshop.start(stage, first=partial(signalled, *where)).wait()
    assert stopped.code == code, stopped.stderr
    assert "run the same command again to go on" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert {path.name for path in workshop.work.iterdir()} == {".out.checkpoints"}
    assert list((workshop.work / ".out.checkpoints").glob("checkpoint-*/whole.json"))


@pytest.mark.parametrize("number", range(4))
def test_stopped_before_an_operation_on_files(workshop, number):
    trial = Trial(0, "stops", STAGES["bundle"], number)
    kill.stop(trial, workshop, at_operation=True)
    assert passed(trial)


@pytest.mark.parametrize("stage, number", [("finetune", 0), ("bundle", 0), ("bundle", 1), ("bundle", 2), ("bundle", 4)])
def test_two_writers_of_one_output(workshop, stage, number):
    trial = Trial(0, "writers", STAGES[stage], number)
    together.writers(trial, workshop)
    assert passed(trial)


@pytest.mark.parametrize("number", range(2))
def test_an_export_is_replaced_while_it_is_bundled(workshop, number):
    trial = Trial(0, "readers", STAGES["bundle"], number)
    together.readers(trial, workshop)
    assert passed(trial)


def no_file_above(size: int) -> Callable[[], None]:
    """To be called in a command's process: no file of it becomes larger than `size` bytes."""
    return partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("stage, size", [("finetune", 10_000), ("bundle", 0), ("bundle", 10_000), ("bundle", 60_000)])
def test_files_that_cannot_grow(workshop, stage, size):
    """As on a full disk, for which the long form has to be root: a refusal, nothing new, and later the result."""
    trial = Trial(0, "disk", STAGES[stage], size)
    workshop.empty(trial.stage)
    refused = workshop.start(trial.stage, first=no_file_above(size)).wait()
    assert refused.code == 2, refused.stderr
    if size:  # stderr is a file, too
        require_sentence(trial, refused)
    assert trial.stage.view(workshop.work) == {}
    assert not workshop.halves()
    again = workshop.start(trial.stage).wait()
    assert again.code == 0, again.stderr
    require_same(trial, workshop, 0)
    assert passed(trial)
