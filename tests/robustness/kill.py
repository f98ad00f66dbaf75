"""Kills, stops, double writers and full disks, by the hundred: `python -m tests.robustness.kill --help`.

What has to hold: no output is ever half-written or mixed, and the same command, run again, ends in the result of an
undisturbed one with nothing left beside it. The suite holds a short form, test_kill.py.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from . import forked, full_disk, together
from .commands import STAGES, Stage
from .trials import Trial, last_line, require_same, require_whole
from .workshop import Workshop


def kill(trial: Trial, workshop: Workshop, at_operation: bool) -> None:
    """SIGKILL at a random moment, or just before a random operation on files; every other time over older outputs."""
    older = 1 if trial.number % 2 else None
    command = _disturbed(trial, workshop, older, at_operation, signal.SIGKILL)
    if not at_operation:
        command.kill()
    outcome = command.wait()
    trial.landed = outcome.code == -signal.SIGKILL
    trial.require(outcome.code in (0, -signal.SIGKILL), f"exit code {outcome.code}: {outcome.stderr[-300:]}")
    require_whole(trial, workshop, (0,), older)
    if not trial.landed and not at_operation:
        workshop.took(trial.stage, trial.moment)
    _again(trial, workshop, older)


def stop(trial: Trial, workshop: Workshop, at_operation: bool) -> None:
    """SIGINT or SIGTERM likewise, to the command alone or to what it started, too."""
    older = 1 if trial.number % 2 else None
    number = trial.draw.choice([signal.SIGINT, signal.SIGTERM])
    command = _disturbed(trial, workshop, older, at_operation, signal.SIGSTOP)
    if not at_operation:
        command.kill(signal.SIGSTOP)
    trial.landed = command.paused()
    complete = trial.landed and _complete(trial, workshop)
    alone = trial.draw.random() < 0.5
    trial.tell(f"{number.name} {'to the command alone' if alone else 'to all'}")
    command.kill(number, alone)
    command.kill(signal.SIGCONT)
    outcome = command.wait()
    if trial.landed and not complete:
        trial.require(
            outcome.code == 128 + number, f"stopped, it ended with exit code {outcome.code}: {outcome.stderr[-300:]!r}"
        )
        trial.require(last_line(outcome).startswith("stopped; "), f"no word of the stop: {outcome.stderr[-300:]!r}")
    trial.require(outcome.code in (0, 128 + number), f"exit code {outcome.code}")
    running = command.left_running()
    trial.require(not running, f"still running: {running}")
    trial.require(not workshop.halves(), f"left behind by a stop: {workshop.halves()}")
    require_whole(trial, workshop, (0,), older)
    _again(trial, workshop, older)


def _disturbed(
    trial: Trial, workshop: Workshop, older: int | None, at_operation: bool, number: signal.Signals
) -> forked.Command:
    """Start a command that gets a signal at one of its operations, or wait for the moment to send one."""
    stage = trial.stage
    if at_operation:
        operations = workshop.operations(stage, older)
        at = trial.draw.randrange(len(operations))
        trial.tell(f"{number.name} before operation {at} of {len(operations)}, {operations[at]}")
        workshop.empty(stage, older=older)
        return workshop.start(stage, overwrite=older is not None, first=workshop.pausing(at, number))
    seconds = workshop.seconds(stage)
    trial.moment = trial.draw.uniform(0, seconds)
    trial.tell(f"{number.name} after {trial.moment:.3f} s of {seconds:.1f} s")
    workshop.empty(stage, older=older)
    command = workshop.start(stage, overwrite=older is not None)
    if number == signal.SIGSTOP:
        command.takes_stops()
    time.sleep(trial.moment)
    return command


def _complete(trial: Trial, workshop: Workshop) -> bool:
    try:
        return trial.stage.view(workshop.work) == workshop.reference(trial.stage, 0)
    except (OSError, ValueError):
        return False


def _again(trial: Trial, workshop: Workshop, older: int | None) -> None:
    """The same command, undisturbed, ends in the same result."""
    if not trial.stage.skips and older is None and _complete(trial, workshop):
        return
    started = time.monotonic()
    outcome = workshop.start(trial.stage, overwrite=older is not None).wait(600)
    workshop.took(trial.stage, max(time.monotonic() - started, workshop.seconds(trial.stage)))
    trial.require(outcome.code == 0, f"the same command again: exit code {outcome.code}, {outcome.stderr[-300:]!r}")
    require_same(trial, workshop, 0)


KINDS: dict[str, Callable[[Trial, Workshop], None]] = {
    "kills": lambda trial, workshop: kill(trial, workshop, at_operation=False),
    "kills at operations": lambda trial, workshop: kill(trial, workshop, at_operation=True),
    "stops": lambda trial, workshop: stop(trial, workshop, at_operation=trial.number % 4 > 1),
    "writers": together.writers,
    "readers": together.readers,
    "disks": full_disk.disk,
}
TRIED: dict[str, tuple[str, ...]] = {
    "writers": ("finetune", "prune", "export", "validate", "benchmark", "bundle", "run", "import-peft", "export-peft"),
    "readers": ("bundle", "validate", "benchmark", "report"),
    "disks": ("finetune", "prune", "export", "bundle", "validate", "report", "run"),
}
"""Stages that a kind is tried on, where it is not all."""


def tried(workshop: Workshop, kind: str, stage: Stage, count: int, seed: int) -> list[Trial]:
    """Do trials until `count` have landed; those of kills that came too late are looked at, but not counted."""
    trials: list[Trial] = []
    while sum(trial.landed for trial in trials) < count and len(trials) < 3 * count:
        trial = Trial(seed, kind, stage, len(trials))
        KINDS[kind](trial, workshop)
        trials.append(trial)
        if trial.faults:
            print(f"FAULT {trial}", flush=True)
    return trials


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.robustness.kill", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="SIGKILLs at random moments, a stage.")
    parser.add_argument("--kills-at-operations", type=int, default=25, help="SIGKILLs just before operations on files.")
    parser.add_argument("--stops", type=int, default=20, help="SIGINTs and SIGTERMs, a stage.")
    parser.add_argument("--writers", type=int, default=20, help="Times that two commands write one output.")
    parser.add_argument("--readers", type=int, default=20, help="Times that an export is replaced under a reader.")
    parser.add_argument("--disks", type=int, default=10, help="Sizes of a disk that is too small; needs root.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stage", action="append", choices=STAGES, help="This stage alone; may be repeated.")
    parser.add_argument("--folder", type=Path, help="Where to work; a temporary folder if not given.")
    asked = parser.parse_args()
    if asked.disks and not full_disk.can_mount():
        parser.error("full disks are small memory file systems, which this user may not mount: be root, or --disks 0")
    return asked


def main() -> int:
    """Do what the arguments ask for; the exit code is 1 if there was a fault."""
    asked = _arguments()
    forked.preload()
    root = Path(tempfile.mkdtemp(dir=asked.folder))
    os.environ["TMPDIR"] = tempfile.tempdir = str(root)
    workshop = Workshop(root / "workshop")
    print(
        "| stage | disturbed by | times | too late | faults | seconds |\n| --- | --- | --- | --- | --- | --- |",
        flush=True,
    )
    faults = 0
    for kind in KINDS:
        count = getattr(asked, kind.replace(" ", "_"))
        for name in TRIED.get(kind, tuple(STAGES)) if count else ():
            if asked.stage and name not in asked.stage:
                continue
            started = time.monotonic()
            trials = tried(workshop, kind, STAGES[name], count, asked.seed)
            wrong = sum(bool(trial.faults) for trial in trials)
            landed = sum(trial.landed for trial in trials)
            took = time.monotonic() - started
            print(f"| {name} | {kind} | {landed} | {len(trials) - landed} | {wrong} | {took:.0f} |", flush=True)
            faults += wrong
    shutil.rmtree(root)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
