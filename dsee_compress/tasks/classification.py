"""Classification: one text or a pair in, one of some labels out."""

from typing import TYPE_CHECKING, Any

from ..checkpoint import Task
from ..configs import SourceConfig, nearest
from ..data.files import Place
from ..errors import UserError
from ..metrics import OF_TASK
from . import text
from .labels import Labels, in_words

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
    found = Labels(split)
    for value, place in split.labels():
        found.name(value, place)
    labels = found.declared or found.sorted()
    if len(labels) < 2:
        raise UserError(f"{where} has one label only, {labels[0]}; a classifier needs two")
    return Task(
        name="classification",
        metric=config.metric or OF_TASK["classification"][0].name,
        positive=_positive(config, labels, where),
        data=data,
        text=split.text,
        label=split.label,
        labels=labels,
        max_length=config.max_length,
    )


def encode(task: Task, split: str, tokenizer: "PreTrainedTokenizerBase") -> "Dataset":
    """Tokenised rows of a split with `labels` as indices into `task.labels`; not padded.

    UserError for a missing column, a text that is not a string, or a label unseen in training.
    """
    found = text.read(task.data, split, task.text, task.label)
    labels = Labels(found)
    index = {name: position for position, name in enumerate(task.labels)}

    def index_of(value: Any, place: Place) -> int:
        name = labels.name(value, place)
        if name not in index:
            raise UserError(f"{found.where} has the label {name!r}, which is not in the train split ({place})")
        return index[name]

    return text.encode(found, index_of, in_words(task.labels), task.max_length, tokenizer)


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
