"""What happens beside the training steps: a progress bar, and knowing which checkpoints are whole."""

import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .. import checkpoint, distributed
from ..progress import console, duration, pulse

_WHOLE = "whole.json"


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
        for path in folder.iterdir():
            checkpoint.fsync(path)
        checkpoint.write_json(folder / _WHOLE, self.seconds)


def last_whole_checkpoint(folder: Path) -> tuple[str | None, float]:
    """The latest checkpoint in `folder` that was written to its end, and the seconds of training until then."""
    marks = sorted(
        folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*/{_WHOLE}"), key=lambda mark: int(mark.parent.name.rpartition("-")[2])
    )
    return (str(marks[-1].parent), json.loads(marks[-1].read_text())) if marks else (None, 0.0)


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
