"""What models are asked on a split of a task's data, by the kind of the task, and which metrics judge the answers."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import tasks
from ..checkpoint import Task
from ..configs import TaskName, ValidateConfig
from ..evaluation import decoding, inputs, parity, session
from ..evaluation.generator import OnnxGenerator
from ..evaluation.inputs import Forward, Logits
from ..metrics import METRICS, Metric, Written
from ..tasks import classification, generation, regression
from ..tasks.text import IGNORED

Collator = Callable[[list[dict[str, Any]]], dict[str, Any]]


class Subject(NamedTuple):
    """A model to be asked."""

    forward: Forward
    generator: Any = None
    """What has transformers' `generate`; None for a model that does not write."""


class Answers(NamedTuple):
    """What a model answered."""

    predictions: Any
    """As the metrics take them."""
    logits: Logits
    """What the export gate compares, (rows, outputs)."""


class Examination(Protocol):
    """The same questions for each model."""

    metrics: dict[str, Metric]
    """The task's own first."""
    truth: Any
    """As the metrics take it."""
    rows: Any
    """The encoded split."""
    examples: int

    def answers(self, subject: Subject) -> Answers:
        """Ask a model."""

    def artifact(self, path: Path, provider: str) -> AbstractContextManager[Subject]:
        """Load an ONNX artifact on a provider of `session.PROVIDERS`: a context manager that gives a Subject."""

    def as_json(self, predictions: Any) -> list[Any]:
        """What validation.json keeps of a model's predictions."""


def subject_of(model: PreTrainedModel) -> Subject:
    """A PyTorch model to be asked."""
    return Subject(parity.torch_forward(model), model)


def whole(task: Task, split: str, tokenizer: PreTrainedTokenizerBase, config: ValidateConfig) -> Examination:
    """Every metric of the task, on a split of its data."""
    rows, collator = tasks.encode(task, split, tokenizer), tasks.collator(tokenizer)
    if task.name == "generation":
        return _Texts(task, split, tokenizer, rows, collator, config)
    return _QUICK[task.name](task, rows, collator, config.batch_size)


def quick(task: Task, rows: Any, collator: Collator, batch_size: int) -> Examination:
    """The metrics that one forward pass over encoded rows gives."""
    return _QUICK[task.name](task, rows, collator, batch_size)


class _Labels:
    """One class or number a row."""

    def __init__(
        self,
        predictions: Callable[[Logits], Any],
        task: Task,
        rows: Any,
        collator: Collator,
        batch_size: int,
    ) -> None:
        self.metrics, self.rows = tasks.metrics_of(task), rows
        self.truth = np.array(rows["labels"])
        self.examples = len(self.truth)
        self._predictions = predictions
        self._batches = inputs.padded_batches(rows, collator, batch_size)

    def answers(self, subject: Subject) -> Answers:
        logits = inputs.predict(subject.forward, self._batches)
        return Answers(self._predictions(logits), logits)

    @contextmanager
    def artifact(self, path: Path, provider: str) -> Iterator[Subject]:
        with session.Session(path, provider) as live:
            yield Subject(live.forward)

    def as_json(self, predictions: Any) -> list[Any]:
        values: list[Any] = predictions.tolist()
        return values


class _Likelihoods:
    """How likely a decoder holds the references of a split, each in a row of its own."""

    def __init__(self, task: Task, rows: Any, collator: Collator, batch_size: int) -> None:
        self.metrics: dict[str, Metric] = {"perplexity": METRICS["perplexity"]}
        self.truth: Any = None
        self.rows = rows
        self.examples = len(rows)
        self._batches = inputs.padded_batches(rows, collator, batch_size, labelled=True)

    def answers(self, subject: Subject) -> Answers:
        losses = decoding.token_losses(subject.forward, self._batches, IGNORED)
        return Answers(Written([], self._by_example(losses)), losses.losses[:, None].astype(np.float32))

    @contextmanager
    def artifact(self, path: Path, provider: str) -> Iterator[Subject]:
        with OnnxGenerator(path, provider) as model:
            yield Subject(parity.torch_forward(model), model)

    def as_json(self, predictions: Any) -> list[Any]:
        return list(predictions.texts)

    def _by_example(self, losses: decoding.TokenLosses) -> Any:
        """Sum of the losses, and number of tokens, (examples, 2)."""
        example = self._example(losses.rows)
        sums = [np.bincount(example, weights, minlength=self.examples) for weights in (losses.losses, None)]
        return np.stack(sums, axis=1)

    def _example(self, rows: Any) -> Any:
        return rows


class _Texts(_Likelihoods):
    """What a decoder writes to each source of a split, beside the likelihood of its references."""

    def __init__(
        self,
        task: Task,
        split: str,
        tokenizer: PreTrainedTokenizerBase,
        rows: Any,
        collator: Collator,
        config: ValidateConfig,
    ) -> None:
        super().__init__(task, rows, collator, config.batch_size)
        prompts = generation.prompts(task, split, tokenizer)
        self.metrics = tasks.metrics_of(task)
        self.truth = [prompt.references for prompt in prompts]
        self.examples = len(prompts)
        self._tokens = [prompt.tokens for prompt in prompts]
        self._example_of_row = np.repeat(np.arange(len(prompts)), [len(own) for own in self.truth])
        self._tokenizer, self._config = tokenizer, config

    def answers(self, subject: Subject) -> Answers:
        losses, logits = super().answers(subject)
        texts = decoding.generate(
            subject.generator, self._tokens, self._config, self._tokenizer, self._config.batch_size
        )
        return Answers(losses._replace(texts=texts), logits)

    def _example(self, rows: Any) -> Any:
        return self._example_of_row[rows]


_QUICK: dict[TaskName, Callable[[Task, Any, Collator, int], Examination]] = {
    "classification": partial(_Labels, classification.predictions),
    "regression": partial(_Labels, regression.predictions),
    "generation": _Likelihoods,
}
