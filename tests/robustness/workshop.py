"""A place where the stages' commands run, undisturbed or disturbed, at one path.

One path, because some results name the folder that they are of.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from tests.fixtures import models

from . import commands
from .commands import RESULTS, STAGES, Stage, View
from .forked import Command, Operations, Outcome


class Workshop:
    """Inputs in `root`/in, made when they are first needed, and a working folder `root`/work."""

    def __init__(self, root: Path) -> None:
        self.root, self.inputs, self.work = root, root / "in", root / "work"
        self.inputs.mkdir(parents=True)
        self.work.mkdir()
        self._logs = 0
        self._references: dict[tuple[str, int], View] = {}
        self._operations: dict[tuple[str, int | None, bool], list[str]] = {}
        self._seconds: dict[str, float] = {}
        models.write_model("bert", self.inputs / "model")
        models.write_data(self.inputs / "data", train=64, validation=32)
        (self.inputs / "recipe.yaml").write_text(yaml.safe_dump(commands.recipe()))

    def given(self, name: str) -> Path:
        """An input by its name."""
        path = self.inputs / name
        if not path.exists():
            if arguments := commands.maker(name):
                words = [word.removeprefix("../in/") for word in self._fed(arguments)]
                words[words.index("--output") + 1] = name
                self._undisturbed(Command(words, self.inputs, self.log()))
            else:
                self._keep_result(path)
        return path

    def _keep_result(self, path: Path) -> None:
        """The validation.json or benchmark.json of a variant, as an input."""
        name, _, variant = path.name.rpartition(".")
        stage = STAGES[("validate", "benchmark")[RESULTS.index(name)]]
        self.reference(stage, int(variant))
        shutil.copyfile(self._kept(stage, int(variant)) / "exported0" / name, path)

    def _fed(self, arguments: list[str]) -> list[str]:
        for word in arguments:
            if word.startswith("../in/"):
                self.given(word.removeprefix("../in/"))
        return arguments

    def log(self) -> Path:
        """A new folder for what a command prints."""
        self._logs += 1
        return self.root / "log" / str(self._logs)

    def empty(self, stage: Stage, variant: int = 0, older: int | None = None) -> None:
        """Make the working folder new for a variant of a stage, over the outputs of an older variant if there is one.

        The folder itself stays, as something may be mounted there.
        """
        if older is not None:
            self.reference(stage, older)
        for name in stage.needs:
            self.given(name.format(variant))
        for path in self.work.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        if older is not None:
            shutil.copytree(self._kept(stage, older), self.work, dirs_exist_ok=True)
        stage.put(self.given, self.work, variant)

    def start(
        self, stage: Stage, variant: int = 0, overwrite: bool = False, first: Callable[[], None] | None = None
    ) -> Command:
        """Start a stage's command in the working folder; `first` is called in its process."""
        more = ["--overwrite"] if overwrite and stage.name != "report" else []
        return Command([*self._fed(stage.arguments(variant)), *more], self.work, self.log(), first=first)

    def reference(self, stage: Stage, variant: int) -> View:
        """What a variant of a stage writes if nothing disturbs it."""
        key = (stage.name, variant)
        if key not in self._references:
            self.empty(stage, variant)
            self.undisturbed(stage, variant)
            self._references[key] = stage.view(self.work)
            shutil.copytree(self.work, self._kept(stage, variant))
        return self._references[key]

    def _kept(self, stage: Stage, variant: int) -> Path:
        return self.root / "kept" / f"{stage.name}-{variant}"

    def undisturbed(self, stage: Stage, variant: int = 0) -> None:
        """Run a stage's command in the working folder, and take its time."""
        self._fed(stage.arguments(variant))
        started = time.monotonic()
        self._undisturbed(self.start(stage, variant))
        self.took(stage, time.monotonic() - started)

    def _undisturbed(self, command: Command) -> Outcome:
        outcome = command.wait(600)
        if outcome.code:
            raise RuntimeError(f"an undisturbed command ended with exit code {outcome.code}: {outcome.stderr}")
        return outcome

    def took(self, stage: Stage, seconds: float) -> None:
        """Take note of how long a stage's command ran from nothing."""
        before = self._seconds.get(stage.name, seconds)
        self._seconds[stage.name] = (before + seconds) / 2

    def seconds(self, stage: Stage) -> float:
        """About how long a stage's command takes now."""
        if stage.name not in self._seconds:
            self.reference(stage, 0)
        return self._seconds[stage.name]

    def operations(self, stage: Stage, older: int | None = None, reads: bool = False) -> list[str]:
        """What variant 0 of a stage does with files, over the outputs of an older variant if there is one."""
        key = (stage.name, older, reads)
        if key not in self._operations:
            self.empty(stage, older=older)
            log = self.log()
            log.mkdir(parents=True)
            watched = Operations(log / "operations", self.work, reads=reads)
            self._undisturbed(self.start(stage, overwrite=older is not None, first=watched.watch))
            self._operations[key] = (log / "operations").read_text().splitlines()
        return self._operations[key]

    def pausing(self, at: int, number: int, reads: bool = False) -> Callable[[], None]:
        """To be called in a command's process: send it a signal just before its file operation of the number `at`."""
        log = self.log()
        log.mkdir(parents=True)
        return Operations(log / "operations", self.work, at, number, reads).watch

    def litter(self) -> Iterator[str]:
        """Hidden files and folders in the working folder."""
        return (str(path.relative_to(self.work)) for path in sorted(self.work.rglob(".*")))

    def halves(self) -> list[str]:
        """What was begun to be written and is not whole, but for what training keeps to go on from."""
        return [name for name in self.litter() if name.endswith(".partial") and ".checkpoints" not in name]
