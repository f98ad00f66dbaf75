"""A task is data, collator, metric and loss: one module a kind, with the same functions.

The loss is transformers' own, chosen by the `problem_type` that a kind's `head` gives to the model.
"""

from typing import TYPE_CHECKING, Any, Protocol

from .. import metrics
from ..checkpoint import Task
from ..configs import SourceConfig, TaskName
from ..metrics import Metric
from . import classification, generation, regression
from .text import collator

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

__all__ = ["KINDS", "Kind", "collator", "describe", "encode", "metrics_of", "of"]


class Kind(Protocol):
    """What the module of a kind has."""

    def describe(self, data: str, config: SourceConfig) -> Task:
        """Read the columns, and labels, of the training split into a task."""

    def encode(self, task: Task, split: str, tokenizer: "PreTrainedTokenizerBase") -> "Dataset":
        """Tokenised rows of a split with `labels` as the loss takes them; not padded."""

    def head(self, task: Task) -> dict[str, Any]:
        """What the model's config says of the task head."""


KINDS: dict[TaskName, Kind] = {"classification": classification, "regression": regression, "generation": generation}


def of(task: Task) -> Kind:
    """The kind of a task."""
    return KINDS[task.name]


def describe(data: str, config: SourceConfig) -> Task:
    """The task that `config` asks for, on `data`; UserError for labels that do not fit it or its metric."""
    return KINDS[config.task].describe(data, config)


def metrics_of(task: Task) -> dict[str, Metric]:
    """The metrics that fit `task`, its own first; F1 only where a class is known to be the positive one."""
    names = [task.metric, *(metric.name for metric in metrics.OF_TASK[task.name] if metric.name != task.metric)]
    fitting = {name: metrics.METRICS[name] for name in names if name != "f1" or task.positive is not None}
    if task.positive is not None:
        fitting["f1"] = metrics.of_class(metrics.METRICS["f1"], task.labels.index(task.positive))
    return fitting


def encode(task: Task, split: str, tokenizer: "PreTrainedTokenizerBase") -> "Dataset":
    """Tokenised rows of a split of the task's data, with `labels`; UserError for rows that do not fit the task."""
    return of(task).encode(task, split, tokenizer)
