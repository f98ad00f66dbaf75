"""What happens beside the training steps: a progress bar, and knowing which checkpoints are whole."""

import math
import re
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .. import digests, distributed
from ..errors import UserError
from ..progress import console, duration, pulse, tell
from ..store import folders, mark


class CheckpointMarker(TrainerCallback):
    """Marks a checkpoint once all of it is written, so that a killed save is never resumed from.

    The mark holds the seconds of training so far, those before an interruption included.
    """

    def __init__(self, earlier: float) -> None:
        self._started = time.perf_counter() - earlier

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        return time.perf_counter() - self._started

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Called by the Trainer after this process has written its part."""
        distributed.wait()
        if not distributed.is_main():
            return
        folder = Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        files = [path for path in folder.iterdir() if path.is_file()]
        for path in files:
            folders.fsync(path)
        mark.write(folder, {path.name: digests.sha256(path) for path in files}, self.seconds)


@distributed.in_main
def last_whole_checkpoint(folder: Path) -> tuple[str | None, float]:
    """The latest checkpoint in `folder` that is as it was written, and the seconds of training until then.

    Later ones go: those that a kill left half-written, and, which is told, those that were damaged since.
    """
    for path in reversed(_checkpoints(folder)):
        try:
            return str(path), mark.read(path).seconds
        except ValueError as error:
            if (path / mark.MARK).exists():
                before = "the checkpoint before" if _checkpoints(folder)[0] != path else "the start"
                tell(f"{path / str(error)} is damaged; training goes on from {before}")
            shutil.rmtree(path)
    return None, 0.0


def discard_unmarked(folder: Path) -> None:
    """Give the space back of a checkpoint that could not be written to its end."""
    for path in _checkpoints(folder):
        if not (path / mark.MARK).exists():
            shutil.rmtree(path, ignore_errors=True)


def _checkpoints(folder: Path) -> list[Path]:
    """The folders of checkpoints, whole or not, in the order of their steps."""
    steps = {path: re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", path.name) for path in folder.glob("*")}
    return sorted((path for path, step in steps.items() if step), key=lambda path: int(path.name.rpartition("-")[2]))


class FiniteLoss(TrainerCallback):
    """Ends a training whose mean loss of an epoch is no longer a number, before that epoch is saved."""

    def __init__(self, learning_rate: float) -> None:
        self._learning_rate = learning_rate

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Called by the Trainer, in every process with the same mean; raises UserError."""
        if not math.isfinite((kwargs.get("logs") or {}).get("loss", 0.0)):
            raise diverged(self._learning_rate)


def diverged(learning_rate: float) -> UserError:
    """What a training ends with whose loss or weights are not finite."""
    return UserError(f"training diverged with a learning rate of {learning_rate:g}; choose a smaller one")


class RichProgress(TrainerCallback):
    """A bar with steps, time left and the running loss; without a terminal, the same in a line now and then."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._loss = ""
        self._bar = Progress(
            TextColumn(label),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
            console=console,
        )
        self._lines = ExitStack()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar, at the step from which training goes on."""
        self._begun, self._first = time.monotonic(), state.global_step
        self._task = self._bar.add_task("train", total=state.max_steps, completed=state.global_step, loss="")
        self._lines.enter_context(pulse(lambda: self._line(state.global_step, state.max_steps)))
        self._bar.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=state.global_step)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Show the loss of the epoch that ended."""
        if "loss" in (kwargs.get("logs") or {}):
            self._loss = f"loss {kwargs['logs']['loss']:.3f}"
            self._bar.update(self._task, loss=self._loss)

    def stop(self) -> None:
        """Close the bar, also when training was stopped."""
        self._lines.close()
        self._bar.stop()

    def _line(self, done: int, steps: int) -> str:
        parts = [f"{self._label}: {done} of {steps} steps"]
        if done > self._first:
            left = (time.monotonic() - self._begun) / (done - self._first) * (steps - done)
            parts.append(f"about {duration(left)} left")
        return ", ".join([*parts, *filter(None, [self._loss])])
