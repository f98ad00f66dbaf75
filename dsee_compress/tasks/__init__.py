"""A task is what the data asks of a model: one file a task, and one class in it.

Another task is a file here and an import below; its metrics, where they are new, stand in `metrics/`, and options of
its own are a base of `configs.SourceConfig`.
"""

from typing import TYPE_CHECKING, Any

from . import classification, generation, multi_label, regression, token_classification
from .task import TASKS, Collator, HeadKind, Measured, MetricName, Options, Reads, Spec, Task, TaskName

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "TASKS",
    "Collator",
    "HeadKind",
    "Measured",
    "MetricName",
    "Options",
    "Reads",
    "Spec",
    "Task",
    "TaskName",
    "classification",
    "describe",
    "encode",
    "generation",
    "get",
    "labels_in_words",
    "metrics_in_words",
    "multi_label",
    "of",
    "regression",
    "require_fitting",
    "token_classification",
]


def get(name: str) -> Task[Any]:
    """The task of a name."""
    return TASKS[name]


def of(spec: Spec) -> Task[Any]:
    """The task that `spec` is one of."""
    return TASKS[spec.name]


def describe(data: str, options: Options) -> Spec:
    """The task that `options` ask for, on `data`; UserError for labels that do not fit it or its metric."""
    return get(options.task).describe(data, options)


def encode(spec: Spec, split: str, tokenizer: "PreTrainedTokenizerBase") -> "Dataset":
    """Tokenised rows of a split of the task's data, with `labels`; UserError for rows that do not fit the task."""
    return of(spec).encode(spec, split, tokenizer)


def require_fitting(options: Options) -> None:
    """ValueError for an option that is of another task alone, or a metric that is."""
    task, name = get(options.task), options.task
    for other in TASKS.values():
        for option, meaning in other.own_options.items():
            if option not in task.own_options and getattr(options, option) is not None:
                raise ValueError(f"{option} {meaning.format(task=name)}")
    if options.metric not in (None, *task.metrics):
        raise ValueError(f"metric {options.metric} is not of {name}, which has {', '.join(task.metrics)}")
    task.require(options)


def labels_in_words() -> str:
    """What the label is in each task."""
    return "; ".join(f"{task.label} ({task.name})" for task in TASKS.values())


def metrics_in_words() -> str:
    """The metrics of each task."""
    return "; ".join(f"{', '.join(task.metrics)} ({task.name})" for task in TASKS.values())
