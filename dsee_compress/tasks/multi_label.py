"""Multi-label classification: one text or a pair in, any number of some labels out."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..data import columns
from ..data.files import Place, is_text
from ..errors import UserError
from . import text
from .labels import in_words
from .task import Options, Spec, Task, register
from .text import Split

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

COLUMNS = ("labels", columns.LABEL)
"""Usual names of the column with the list of a row's labels."""
THRESHOLD = "label_threshold"
"""Entry of a model's config: the probability above which a label is given."""


@register
class MultiLabel(Task[Options]):
    """Any number of some classes."""

    name = "multi-label"
    label = "a list of classes"
    answers_with = "labels"
    pipeline_options = "top_k=None"
    metrics = ("micro_f1", "macro_f1")
    asks = Options
    unsmoothed = "the lists of multi-label"
    one_of_several = False

    def describe(self, data: str, options: Options) -> Spec:
        """Read the training split's columns and labels, sorted; UserError for labels that are no lists of names."""
        split = text.read(data, "train", options.text, options.label, COLUMNS)
        lists = _Lists(split)
        found: set[str] = set()
        for value, place in split.labels():
            found.update(lists.names(value, place))
        if len(found) < 2:
            raise UserError(f"{split.where} has fewer than two labels in {split.label!r}; nothing is to be told apart")
        return self._spec(data, options, text=split.text, label=split.label, labels=sorted(found))

    def encode(self, spec: Spec, split: str, tokenizer: "PreTrainedTokenizerBase") -> "Dataset":
        """Tokenised rows of a split with `labels` as one flag a label, 1.0 or 0.0; not padded.

        UserError for a missing column, a text that is not a string, or a label unseen in training.
        """
        found = text.read(spec.data, split, spec.text, spec.label)
        return text.encode(found, _flags(spec, found), in_words(spec.labels), spec.max_length, tokenizer)

    def config_entries(self, spec: Spec) -> dict[str, Any]:
        """One output a label, each trained by the cross-entropy of its own two answers."""
        own = {"problem_type": "multi_label_classification", THRESHOLD: 0.5}
        return super().config_entries(spec) | own

    def truth(self, spec: Spec, rows: "Dataset") -> Any:
        """Flags, (rows, labels)."""
        return super().truth(spec, rows) > 0

    def fitted(self, logits: Any, truth: Any) -> dict[str, Any]:
        """The threshold with the best micro F1; logits, truth: (rows, labels)."""
        return {THRESHOLD: best_threshold(_probabilities(logits), truth)}

    def predictions(self, spec: Spec, logits: Any, rows: "Dataset", config: "PretrainedConfig") -> Any:
        """Flags, (rows, labels): whose probability is above the config's threshold."""
        return _probabilities(logits) > getattr(config, THRESHOLD)

    def as_json(self, predictions: Any) -> list[Any]:
        """The indices of each row's labels."""
        return [row.nonzero()[0].tolist() for row in predictions]

    def bundled(
        self, spec: Spec, tokenizer: "PreTrainedTokenizerBase", config: "PretrainedConfig", new_tokens: int
    ) -> dict[str, Any]:
        """Labels are given above the model's threshold."""
        return super().bundled(spec, tokenizer, config, new_tokens) | {"threshold": getattr(config, THRESHOLD)}


def best_threshold(probabilities: Any, truth: Any) -> float:
    """Where between two neighbouring probabilities micro F1 is largest; both arguments (rows, labels)."""
    import numpy as np

    values, right = probabilities.ravel(), truth.ravel()
    order = np.argsort(-values, kind="stable")
    values, right = values[order], right[order].cumsum()
    f1 = 2 * right / (np.arange(1, len(values) + 1) + right[-1])
    f1[:-1][values[1:] == values[:-1]] = -1  # equal probabilities are given together
    best = int(f1.argmax())
    below = values[best + 1] if best + 1 < len(values) else 0.0
    return float((values[best] + below) / 2)


def _probabilities(logits: Any) -> Any:
    from scipy.special import expit

    return expit(logits.astype("float64"))


def _flags(spec: Spec, split: Split) -> Callable[[Any, Place], list[float]]:
    lists, index = _Lists(split), {name: position for position, name in enumerate(spec.labels)}

    def of(value: Any, place: Place) -> list[float]:
        flags = [0.0] * len(index)
        for name in lists.names(value, place):
            if name not in index:
                raise UserError(f"{split.where} has the label {name!r}, which is not in the train split ({place})")
            flags[index[name]] = 1.0
        return flags

    return of


class _Lists:
    """The lists of labels of one split."""

    def __init__(self, split: Split) -> None:
        self._split, self._declared = split, split.table.class_names(split.label) or []

    def names(self, value: Any, place: Place) -> list[str]:
        """The labels of a row, which may be none; numbers that the set has names for by their names."""
        split = self._split
        if not isinstance(value, list):
            hint = "; a csv holds no lists" if split.table.untyped else ""
            raise UserError(f"{split.where} has no list of labels in {split.label!r} ({place}){hint}")
        return [self._name(label, place) for label in value]

    def _name(self, label: Any, place: Place) -> str:
        if type(label) is int:
            label = self._declared[label] if label in range(len(self._declared)) else str(label)
        if not isinstance(label, str) or not label or not is_text(label):
            raise UserError(
                f"{self._split.where} has {label!r} among the labels in {self._split.label!r}, where a name should be "
                f"({place})"
            )
        return label
