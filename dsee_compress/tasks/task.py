"""What a task is, what a folder says of one, and the registry of tasks."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import AfterValidator, Field

from ..option_types import Length, Names, OneOf
from ..strict import StrictConfig
from . import text

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from ..metrics import Metric

HeadKind = Literal["sequence", "token", "language"]
"""What stands on the layers: one answer a text, one a token, or the next token at each."""
Reads = Literal["first token", "all tokens"]
"""What of the last layer's output the head looks at."""
Collator = Callable[[list[dict[str, Any]]], dict[str, Any]]
"""Makes one padded batch of encoded rows."""

TASKS: dict[str, "Task[Any]"] = {}
"""All tasks, by name."""


def _measured(name: str) -> str:
    if not any(name.partition(":")[0] in task.metrics for task in TASKS.values()):
        raise ValueError(f"there is no metric {name}")
    return name


TaskName = Annotated[str, OneOf(lambda: TASKS)]
Measured = Annotated[str, AfterValidator(_measured)]
"""The name of a metric, or of one of a part: `entity_f1:PER`."""
MetricName = Annotated[str, OneOf(lambda: [name for task in TASKS.values() for name in task.metrics])]


class Options(StrictConfig):
    """What every task has to be told of its data."""

    text: Names | None = Field(
        None,
        description="Text column, or two for pairs; found by name if not given (`source` for generation; `tokens`, or "
        "`text` with spans, for token-classification).",
    )
    label: str | None = Field(
        None,
        min_length=1,
        description="Label column; `label` if not given (`labels` for multi-label; `tags` or `spans` for "
        "token-classification). For generation the column of a row's target, or of its list of targets: `targets` or "
        "`target`.",
    )
    task: TaskName = "classification"
    metric: MetricName | None = None
    max_length: Length = Field(128, description="Tokens after which a text is cut.")


class Spec(StrictConfig):
    """What a model was trained for, and how its data is read."""

    name: TaskName = "classification"
    metric: MetricName = "accuracy"
    """What gates and intervals are about."""
    positive: str | None = None
    """The label that F1 is about, if there is one."""
    data: str
    text: list[str]
    label: str
    labels: list[str]
    """Names of the classes; none in regression and generation."""
    prompt: str | None = None
    """What stands before a target, with `{source}` in it; in generation alone."""
    max_length: int


_Options = TypeVar("_Options", bound=Options)


class Task(ABC, Generic[_Options]):
    """One kind of question to a model. Nothing outside this room knows one by its name.

    The loss is transformers' own, chosen by the head and by `config_entries`.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    """What the label is, in a few words."""
    answers_with: ClassVar[str]
    """What `predict.py` of a bundle makes of the outputs, of its `ANSWERS`."""
    pipeline_tag: ClassVar[str] = "text-classification"
    """What the hub calls it, and transformers the pipeline that answers with such a model."""
    pipeline_options: ClassVar[str] = ""
    """What that pipeline has to be given to answer as validation does, as Python writes it."""
    head: ClassVar[HeadKind] = "sequence"
    reads: ClassVar[Reads] = "first token"
    metrics: ClassVar[tuple[str, ...]]
    """Names of the metrics that judge it, the usual one first."""
    asks: type[_Options]
    """What it has to be told of its data."""
    own_options: ClassVar[dict[str, str]] = {}
    """Options that not every task has, None if not given, and why they say nothing to another `{task}`."""
    unsmoothed: ClassVar[str] = ""
    """What the labels are where the loss is over no classes, and none of them can be smoothed."""
    one_of_several: ClassVar[bool] = True
    """Whether an answer is the label of the largest logit, so that two models' labels can be said to agree."""

    def require(self, options: _Options) -> None:
        """ValueError for options that contradict each other."""

    @abstractmethod
    def describe(self, data: str, options: _Options) -> Spec:
        """Read the columns, and labels, of the training split; UserError for data that does not fit the task."""

    @abstractmethod
    def encode(self, spec: Spec, split: str, tokenizer: "PreTrainedTokenizerBase") -> "Dataset":
        """Tokenised rows of a split with `labels` as the loss takes them; not padded.

        UserError for a missing column, a text that is not a string, or labels that do not fit those of training.
        """

    def config_entries(self, spec: Spec) -> dict[str, Any]:
        """What the model's config says of the task head: one output a label, where there are labels."""
        if not spec.labels:
            return {}
        return {
            "id2label": dict(enumerate(spec.labels)),
            "label2id": {label: index for index, label in enumerate(spec.labels)},
        }

    def judged_by(self, spec: Spec) -> dict[str, "Metric"]:
        """The metrics that fit `spec`, its own first."""
        from ..metrics import METRICS

        names = [spec.metric, *(name for name in self.metrics if name != spec.metric)]
        return {name: METRICS[name] for name in names}

    def collator(self, tokenizer: "PreTrainedTokenizerBase") -> Collator:
        """Pads encoded rows to the longest of a batch."""
        return text.collator(tokenizer)

    def truth(self, spec: Spec, rows: "Dataset") -> Any:
        """The labels of encoded rows, as the metrics take them."""
        import numpy as np

        return np.array(rows["labels"])

    def fitted(self, logits: Any, truth: Any) -> dict[str, Any]:
        """What is read off the answers to the validation split, for the model's config: a threshold, say."""
        return {}

    def predictions(self, spec: Spec, logits: Any, rows: "Dataset", config: "PretrainedConfig") -> Any:
        """What the logits (answers, outputs) of encoded rows say, as the metrics take it; config: of the model."""
        raise NotImplementedError(f"{self.name} is not answered by logits alone")

    def answering(self, logits: Any, batch: dict[str, Any]) -> Any:
        """Those logits of a padded batch that answer something, (answers, outputs); arrays or tensors."""
        if self.reads == "first token":
            return logits
        return logits[batch["attention_mask"] == 1]

    def as_json(self, predictions: Any) -> list[Any]:
        """Predictions as validation.json keeps them, one an example."""
        values: list[Any] = predictions.tolist()
        return values

    def trained_on(self, batch: dict[str, Any]) -> dict[str, Any]:
        """What the model is called with in training, of a padded batch with labels."""
        return batch

    def inputs(self, spec: Spec, split: str, tokenizer: "PreTrainedTokenizerBase") -> list[list[int]]:
        """The tokens that a model is given of each example of a split."""
        tokens: list[list[int]] = self.encode(spec, split, tokenizer)["input_ids"]
        return tokens

    def texts(self, spec: Spec, split: str, count: int) -> list[tuple[str, ...]]:
        """The first texts, or pairs, of a split, as a user would write them."""
        found = text.read(spec.data, split, spec.text, spec.label)
        return [values for _, values in islice(found.table.rows(found.text), count)]

    def fed(
        self, spec: Spec, texts: list[tuple[str, ...]], tokenizer: "PreTrainedTokenizerBase"
    ) -> list[dict[str, Any]]:
        """What a model is fed with for each text, or pair; not padded."""
        columns = tokenizer(*map(list, zip(*texts, strict=True)), truncation=True, max_length=spec.max_length)
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def bundled(
        self, spec: Spec, tokenizer: "PreTrainedTokenizerBase", config: "PretrainedConfig", new_tokens: int
    ) -> dict[str, Any]:
        """What `bundle.json` says of the form of an answer; new_tokens: how many are written at most."""
        return {"answer": self.answers_with}

    def _spec(self, data: str, options: _Options, **found: Any) -> Spec:
        """A spec with what the options say already; `found` in the data."""
        asked = {"metric": options.metric or self.metrics[0], "max_length": options.max_length}
        return Spec(name=self.name, data=data, **asked, **found)


def register(task: type["Task[Any]"]) -> type["Task[Any]"]:
    """Make a task known under its name."""
    TASKS[task.name] = task()
    return task
