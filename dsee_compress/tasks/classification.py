"""Classification: one text or a pair in, one of some labels out."""

from typing import TYPE_CHECKING, Any

from ..checkpoint import Task
from ..configs import METRICS_OF, SourceConfig, nearest
from ..errors import UserError
from . import text
from .text import Split

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


def describe(data: str, config: SourceConfig) -> Task:
    """Read the training split's columns and labels into a task.

    Labels are the names that the set declares, or the sorted values of its training split. UserError for labels
    that are no classes, or of which F1 could not tell the positive one.
    """
    split = text.read(data, "train", config.text, config.label)
    where = split.where
    labels = _declared(split) or sorted(set(split.labels), key=lambda value: (value is None, value))
    if None in labels or "" in labels:
        raise UserError(f"{where} has rows without a {split.label!r}")
    if any(isinstance(value, float) for value in labels):
        raise UserError(f"{where} has numbers with a fraction as labels; classification needs classes")
    if len(labels) < 2:
        raise UserError(f"{where} has one label only, {labels[0]!r}; a classifier needs two")
    names = [str(value) for value in labels]
    return Task(
        name="classification",
        metric=config.metric or METRICS_OF["classification"][0],
        positive=_positive(config, names, where),
        data=data,
        text=split.text,
        label=split.label,
        labels=names,
        max_length=config.max_length,
    )


def encode(task: Task, split: str, tokenizer: "PreTrainedTokenizerBase") -> "Dataset":
    """Tokenised rows of a split with `labels` as indices into `task.labels`; not padded.

    UserError for a missing column, a text that is not a string, or a label unseen in training.
    """
    found = text.read(task.data, split, task.text, task.label)
    declared = _declared(found)
    names = [declared[value] if declared and value in range(len(declared)) else str(value) for value in found.labels]
    index = {name: position for position, name in enumerate(task.labels)}
    unknown = next((name for name in names if name not in index), None)
    if unknown is not None:
        raise UserError(f"{found.where} has the label {unknown!r}, which is not in the train split")
    return text.encode(found, [index[name] for name in names], task.max_length, tokenizer)


def head(task: Task) -> dict[str, Any]:
    """One output a label, trained by cross-entropy."""
    return {
        "id2label": dict(enumerate(task.labels)),
        "label2id": {label: index for index, label in enumerate(task.labels)},
        "problem_type": "single_label_classification",
    }


def predictions(logits: Any) -> Any:
    """The index of each row's largest logit: (rows, labels) to (rows,)."""
    return logits.argmax(-1)


def _declared(split: Split) -> list[str] | None:
    """The names of the labels, where the set has them as numbers and says what they mean."""
    return getattr(split.rows.features[split.label], "names", None)


def _positive(config: SourceConfig, labels: list[str], where: str) -> str | None:
    """The label that F1 is about: as named, else the second of two."""
    if config.positive is not None:
        if config.positive not in labels:
            raise UserError(f"{where} has no label {config.positive!r}; {nearest(config.positive, labels)}")
        return config.positive
    if len(labels) == 2:
        return labels[1]
    if config.metric == "f1":
        raise UserError(
            f"metric f1 is about one label, and {where} has {len(labels)}; name it with --positive, or choose matthews"
        )
    return None
