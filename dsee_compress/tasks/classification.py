"""Sequence classification: one text or a pair in, one label out; accuracy."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..checkpoint import Task
from ..errors import UserError
from . import data as data_sets

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


def describe(data: str, text: list[str] | None, label: str | None, max_length: int) -> Task:
    """Read the training split's columns and labels into a task description.

    Labels are the names that the set declares, or the sorted values of its training split.
    """
    rows = data_sets.read_split(data, "train")
    where = f"the train split of {data}"
    columns = data_sets.find_text(rows.column_names, text, where)
    target = data_sets.find_label(rows.column_names, label, where)
    declared = getattr(rows.features[target], "names", None)
    if any(isinstance(value, list | dict) for value in rows[target][:1]):
        raise UserError(f"{where} has lists or objects in {target!r}; one label a row")
    labels = declared or sorted(set(rows[target]), key=lambda value: (value is None, value))
    if None in labels or "" in labels:
        raise UserError(f"{where} has rows without a {target!r}")
    if any(isinstance(value, float) for value in labels):
        raise UserError(f"{where} has numbers with a fraction as labels; classification needs classes")
    if len(labels) < 2:
        raise UserError(f"{where} has one label only, {labels[0]!r}; a classifier needs two")
    return Task(data=data, text=columns, label=target, labels=[str(value) for value in labels], max_length=max_length)


def encode(task: Task, split: str, tokenizer: "PreTrainedTokenizerBase") -> "Dataset":
    """Tokenised rows of a split with `labels` as indices into `task.labels`; not padded.

    UserError for a missing column, a text that is not a string, or a label unseen in training.
    """
    rows = data_sets.read_split(task.data, split)
    where = f"the {split} split of {task.data}"
    columns = data_sets.find_text(rows.column_names, task.text, where)
    target = data_sets.find_label(rows.column_names, task.label, where)
    declared = getattr(rows.features[target], "names", None)
    index = {name: position for position, name in enumerate(task.labels)}
    special = tokenizer.num_special_tokens_to_add(pair=len(columns) == 2)
    if task.max_length <= special:
        raise UserError(f"max_length {task.max_length} leaves no room beside the {special} special tokens of a row")

    def encode_rows(batch: dict[str, list[Any]]) -> dict[str, Any]:
        texts = [batch[column] for column in columns]
        for column, values in zip(columns, texts, strict=True):
            bad = next((value for value in values if not isinstance(value, str)), "")
            if bad != "":
                raise UserError(f"{where}: column {column!r} has {bad!r} where a text should be")
        encoded = tokenizer(*texts, truncation=True, max_length=task.max_length)
        names = [
            declared[value] if declared and value in range(len(declared)) else str(value) for value in batch[target]
        ]
        unknown = next((name for name in names if name not in index), None)
        if unknown is not None:
            raise UserError(f"{where} has the label {unknown!r}, which is not in the train split")
        return {**encoded, "labels": [index[name] for name in names]}

    return rows.map(
        encode_rows,
        batched=True,
        remove_columns=rows.column_names,
        keep_in_memory=True,
        load_from_cache_file=False,
    )


def collator(tokenizer: "PreTrainedTokenizerBase") -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Pads a list of encoded rows to its longest."""
    from transformers import DataCollatorWithPadding

    return DataCollatorWithPadding(tokenizer)


def accuracy(predictions: Any, labels: Any) -> float:
    """Share of predictions equal to their labels."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predictions))
