"""Regression: one text or a pair in, one number out."""

import math
from typing import TYPE_CHECKING, Any

from ..checkpoint import Task
from ..configs import METRICS_OF, SourceConfig
from ..errors import UserError
from . import text
from .text import Split

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


def describe(data: str, config: SourceConfig) -> Task:
    """Read the training split's columns into a task; UserError for labels that are no numbers, or all one."""
    split = text.read(data, "train", config.text, config.label)
    _numbers(split)
    return Task(
        name="regression",
        metric=config.metric or METRICS_OF["regression"][0],
        data=data,
        text=split.text,
        label=split.label,
        labels=[],
        max_length=config.max_length,
    )


def encode(task: Task, split: str, tokenizer: "PreTrainedTokenizerBase") -> "Dataset":
    """Tokenised rows of a split with `labels` as floats; not padded.

    UserError for a missing column, a text that is not a string, or labels that are no numbers, or all one.
    """
    found = text.read(task.data, split, task.text, task.label)
    return text.encode(found, _numbers(found), task.max_length, tokenizer)


def head(task: Task) -> dict[str, Any]:
    """One output, named as the label column is and trained by the mean squared error."""
    return {"id2label": {0: task.label}, "label2id": {task.label: 0}, "problem_type": "regression"}


def predictions(logits: Any) -> Any:
    """The output itself: (rows, 1) to (rows,)."""
    return logits[..., 0].astype("float64")


def _numbers(split: Split) -> list[float]:
    values = split.labels
    numbers = [_number(value) for value in values]
    # One cell that is no number makes texts of a whole csv column: it is told before them.
    wrong = [row for row, number in enumerate(numbers) if not math.isfinite(number)]
    wrong = wrong or [row for row, value in enumerate(values) if isinstance(value, str)]
    if wrong:
        raise UserError(
            f"{split.where} has {values[wrong[0]]!r} in {split.label!r}, row {wrong[0]}; regression needs numbers"
        )
    if len(set(numbers)) == 1:
        raise UserError(f"{split.where} has {values[0]!r} in {split.label!r} of every row; regression needs two values")
    return numbers


def _number(value: Any) -> float:
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan
