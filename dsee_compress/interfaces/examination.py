"""What models are asked on a split of a task's data, and which metrics judge the answers."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from .. import models, tasks
from ..configs import ValidateConfig
from ..evaluation import decoding, inputs, parity, session
from ..evaluation.generator import OnnxGenerator
from ..evaluation.inputs import Forward, Logits
from ..metrics import METRICS, Metric, Written
from ..tasks import Collator, Spec, generation
from ..tasks.text import IGNORED


class Subject(NamedTuple):
    """A model to be asked."""

    forward: Forward
    config: PretrainedConfig
    generator: Any = None
    """What has transformers' `generate`; None for a model that does not write."""


class Answers(NamedTuple):
    """What a model answered."""

    predictions: Any
    """As the metrics take them."""
    logits: Logits
    """What the export gate compares, (answers, outputs)."""


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

    def unchanged(self, alike: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
        """Which logits stay when tokens that no example of those `alike` holds leave the vocabulary, (answers,).

        None where none does: the likelihood of a token depends on what else could stand there.
        """

    def as_json(self, predictions: Any) -> list[Any]:
        """What validation.json keeps of a model's predictions."""


def subject_of(model: PreTrainedModel) -> Subject:
    """A PyTorch model to be asked."""
    return Subject(parity.torch_forward(model), model.config, model)


class ByLogits:
    """Answers that are read off the logits of one call."""

    def __init__(self, task: Spec, rows: Any, collator: Collator, batch_size: int) -> None:
        self._spec, self._task = task, tasks.of(task)
        self.metrics, self.rows = self._task.judged_by(task), rows
        self.truth = self._task.truth(task, rows)
        self.examples = len(self.truth)
        self._batches = inputs.padded_batches(rows, collator, batch_size)

    def answers(self, subject: Subject) -> Answers:
        """As `Examination.answers`."""
        logits = np.concatenate([self._task.answering(subject.forward(batch), batch) for batch in self._batches])
        return Answers(self._task.predictions(self._spec, logits, self.rows, subject.config), logits)

    @contextmanager
    def artifact(self, path: Path, provider: str) -> Iterator[Subject]:
        """As `Examination.artifact`."""
        with session.Session(path, provider) as live:
            yield Subject(live.forward, models.config_of(models.home_of(path)))

    def unchanged(self, alike: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
        """As `Examination.unchanged`."""
        if self._task.reads == "first token":
            return alike
        return np.repeat(alike, [len(ids) for ids in self.rows["input_ids"]])

    def as_json(self, predictions: Any) -> list[Any]:
        """As `Examination.as_json`."""
        return self._task.as_json(predictions)


class Likelihoods:
    """How likely a decoder holds the references of a split, each in a row of its own."""

    def __init__(self, task: Spec, rows: Any, collator: Collator, batch_size: int) -> None:
        self.metrics: dict[str, Metric] = {"perplexity": METRICS["perplexity"]}
        self.truth: Any = None
        self.rows = rows
        self.examples = len(rows)
        self._batches = inputs.padded_batches(rows, collator, batch_size, labelled=True)

    def answers(self, subject: Subject) -> Answers:
        """As `Examination.answers`."""
        losses = decoding.token_losses(subject.forward, self._batches, IGNORED)
        return Answers(Written([], self._by_example(losses)), losses.losses[:, None].astype(np.float32))

    @contextmanager
    def artifact(self, path: Path, provider: str) -> Iterator[Subject]:
        """As `Examination.artifact`."""
        with OnnxGenerator(path, provider) as model:
            yield Subject(parity.torch_forward(model), model.config, model)

    def unchanged(self, alike: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
        """As `Examination.unchanged`."""
        return None

    def as_json(self, predictions: Any) -> list[Any]:
        """As `Examination.as_json`."""
        return list(predictions.texts)

    def _by_example(self, losses: decoding.TokenLosses) -> Any:
        """Sum of the losses, and number of tokens, (examples, 2)."""
        example = self._example(losses.rows)
        sums = [np.bincount(example, weights, minlength=self.examples) for weights in (losses.losses, None)]
        return np.stack(sums, axis=1)

    def _example(self, rows: Any) -> Any:
        return rows


class Texts(Likelihoods):
    """What a decoder writes to each source of a split, beside the likelihood of its references."""

    def __init__(
        self,
        task: Spec,
        split: str,
        tokenizer: PreTrainedTokenizerBase,
        rows: Any,
        collator: Collator,
        config: ValidateConfig,
    ) -> None:
        super().__init__(task, rows, collator, config.batch_size)
        prompts = generation.prompts(task, split, tokenizer)
        self.metrics = tasks.of(task).judged_by(task)
        self.truth = [prompt.references for prompt in prompts]
        self.examples = len(prompts)
        self._tokens = [prompt.tokens for prompt in prompts]
        self._example_of_row = np.repeat(np.arange(len(prompts)), [len(own) for own in self.truth])
        self._tokenizer, self._config = tokenizer, config

    def answers(self, subject: Subject) -> Answers:
        """As `Examination.answers`."""
        losses, logits = super().answers(subject)
        texts = decoding.generate(
            subject.generator, self._tokens, self._config, self._tokenizer, self._config.batch_size
        )
        return Answers(losses._replace(texts=texts), logits)

    def _example(self, rows: Any) -> Any:
        return self._example_of_row[rows]
