"""Regression: one text or a pair in, one number out."""

import math
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ..data.files import Place
from ..errors import UserError
from . import text
from .task import Options, Spec, Task, register
from .text import Split

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""How a csv writes a number."""


@register
class Regression(Task[Options]):
    """A number."""

    name = "regression"
    label = "a number"
    answers_with = "number"
    metrics = ("pearson", "spearman")
    asks = Options
    unsmoothed = "the numbers of regression"
    one_of_several = False

    def describe(self, data: str, options: Options) -> Spec:
        """Read the training split's columns into a task; UserError for labels that are no numbers, or all one."""
        split = text.read(data, "train", options.text, options.label)
        numbers = _Numbers(split)
        for value, place in split.labels():
            numbers.number(value, place)
        numbers.require_two()
        return self._spec(data, options, text=split.text, label=split.label, labels=[])

    def encode(self, spec: Spec, split: str, tokenizer: "PreTrainedTokenizerBase") -> "Dataset":
        """Tokenised rows of a split with `labels` as floats; not padded.

        UserError for a missing column, a text that is not a string, or labels that are no numbers, or all one.
        """
        found = text.read(spec.data, split, spec.text, spec.label)
        numbers = _Numbers(found)
        rows = text.encode(found, numbers.number, "numbers", spec.max_length, tokenizer)
        numbers.require_two()
        return rows

    def config_entries(self, spec: Spec) -> dict[str, Any]:
        """One output, named as the label column is and trained by the mean squared error."""
        return {"id2label": {0: spec.label}, "label2id": {spec.label: 0}, "problem_type": "regression"}

    def predictions(self, spec: Spec, logits: Any, rows: "Dataset", config: "PretrainedConfig") -> Any:
        """The output itself: (rows, 1) to (rows,)."""
        return logits[..., 0].astype("float64")


class _Numbers:
    """The labels of one split, in the order of its rows."""

    def __init__(self, split: Split) -> None:
        self._split = split
        self._rows = 0
        self._first: tuple[Any, float] | None = None
        self._differ = False

    def number(self, value: Any, place: Place) -> float:
        """A label as a number; UserError for what is none."""
        found = value
        if self._split.table.untyped and _NUMBER.fullmatch(value):
            found = float(value)
        if isinstance(found, bool) or not isinstance(found, int | float | Decimal) or not _is_finite(found):
            raise UserError(
                f"{self._split.where} has {value!r} in {self._split.label!r}, row {self._rows}; regression needs "
                f"numbers ({place})"
            )
        self._rows += 1
        self._first = self._first or (value, float(found))
        self._differ = self._differ or float(found) != self._first[1]
        return float(found)

    def require_two(self) -> None:
        """UserError if all numbers so far are one."""
        if self._first and not self._differ:
            raise UserError(
                f"{self._split.where} has {self._first[0]} in {self._split.label!r} of every row; regression needs two "
                "values"
            )


def _is_finite(value: float | Decimal) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False
