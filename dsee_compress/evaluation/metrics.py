"""The metrics of every task, with what their sample can tell: bootstrap intervals, single and paired."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from ..checkpoint import Task
from ..configs import METRICS_OF, MetricName
from .inputs import Batch, Forward, Logits

Verdict = Literal["proven", "within noise", "failed"]
Values = NDArray[Any]
"""Predictions or labels, (rows,): indices of classes, or numbers."""
Figures = NDArray[np.float64]
"""A metric on every resample, (resamples,)."""
Counts = NDArray[np.float64]
"""How many times each resample drew each row, (resamples, rows)."""
_BLOCK = 2**20
"""Counts that are held in memory at once."""


@dataclass(frozen=True)
class Metric:
    """How well predictions meet labels: 1 is perfect, and 0 stands for what is not defined (a constant, say)."""

    value: Callable[[Values, Values], float]
    """Of predictions and labels."""
    resampled: Callable[[Values, Values, Counts], Figures]
    """The same, of every resample of their rows."""


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, Any]:
        """The form that report.json uses."""
        return {"value": self.value, "ci95": [self.low, self.high]}


@dataclass(frozen=True)
class Sampled:
    """A metric, or with `-` its change between two models, on all rows and on every resample of them."""

    value: float
    resampled: Figures

    def __sub__(self, other: Self) -> "Sampled":
        return Sampled(self.value - other.value, self.resampled - other.resampled)

    @property
    def interval(self) -> Interval:
        """The value with its percentile bootstrap interval."""
        low, high = np.percentile(self.resampled, [2.5, 97.5])
        return Interval(self.value, float(low), float(high))


def predict(forward: Forward, batches: list[Batch]) -> Logits:
    """Logits of all rows, (rows, outputs)."""
    return np.concatenate([forward(batch) for batch in batches])


def of(task: Task) -> dict[MetricName, Metric]:
    """The metrics that fit `task`, its own first; F1 only where a class is known to be the positive one."""
    names = [task.metric, *(name for name in METRICS_OF[task.name] if name != task.metric)]
    fitting = {name: METRICS[name] for name in names if name != "f1" or task.positive is not None}
    if task.positive is not None:
        fitting["f1"] = _of_class(METRICS["f1"], task.labels.index(task.positive))
    return fitting


def bootstrap(
    metric: Metric, predictions: Mapping[str, Values], labels: Values, *, resamples: int = 2000, seed: int = 0
) -> dict[str, Sampled]:
    """The metric of each model's predictions, on all rows and on resamples that the models share.

    Equal rows are alike, so drawing how often each distinct one comes is drawing rows.
    """
    table = np.column_stack([labels, *predictions.values()])
    rows, times = np.unique(table, axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    size = max(1, _BLOCK // len(rows))
    blocks = []
    for start in range(0, resamples, size):
        drawn = generator.multinomial(len(labels), times / len(labels), size=min(size, resamples - start))
        counts = drawn.astype(np.float64)
        blocks.append([metric.resampled(model, rows[:, 0], counts) for model in rows.T[1:]])
    return {
        name: Sampled(metric.value(values, labels), figures)
        for (name, values), figures in zip(predictions.items(), np.concatenate(blocks, axis=1), strict=True)
    }


def judge(change: Interval, max_drop: float) -> Verdict:
    """Whether a change of the metric keeps to the allowed drop, judged on its paired interval.

    `proven`: even the interval's lower end does. `failed`: the measured drop is larger than allowed and the
    interval excludes that there is none. `within noise`: the sample is too small to say.
    """
    if change.low >= -max_drop:
        return "proven"
    if change.value < -max_drop and change.high < 0:
        return "failed"
    return "within noise"


def accuracy(predictions: Values, labels: Values) -> float:
    """Share of predictions equal to their labels."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predictions))


def f1(predictions: Values, labels: Values) -> float:
    """Harmonic mean of precision and recall of flags."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, zero_division=0.0))


def matthews(predictions: Values, labels: Values) -> float:
    """Matthews' correlation of two classes or more."""
    from sklearn.metrics import matthews_corrcoef

    return 0.0 if _constant(predictions, labels) else float(matthews_corrcoef(labels, predictions))


def pearson(predictions: Values, labels: Values) -> float:
    """Correlation of values."""
    from scipy.stats import pearsonr

    return 0.0 if _constant(predictions, labels) else float(pearsonr(predictions, labels).statistic)


def spearman(predictions: Values, labels: Values) -> float:
    """Correlation of ranks; equal values share their mean rank."""
    from scipy.stats import spearmanr

    return 0.0 if _constant(predictions, labels) else float(spearmanr(predictions, labels).statistic)


def _resampled_accuracy(predictions: Values, labels: Values, counts: Counts) -> Figures:
    return _ratio(counts @ (predictions == labels), counts.sum(-1))


def _resampled_f1(predictions: Values, labels: Values, counts: Counts) -> Figures:
    return _ratio(2 * (counts @ (predictions & labels)), counts @ predictions + counts @ labels)


def _resampled_matthews(predictions: Values, labels: Values, counts: Counts) -> Figures:
    # Gorodkin (2004): the covariance of two tables of indicators, (rows, classes).
    classes = np.union1d(predictions, labels)
    predicted, true = (counts @ (values[:, None] == classes) for values in (predictions, labels))
    rows = counts.sum(-1)
    covariance = rows * (counts @ (predictions == labels)) - (predicted * true).sum(-1)
    variances = (rows**2 - (predicted**2).sum(-1)) * (rows**2 - (true**2).sum(-1))
    return _ratio(covariance, np.sqrt(variances))


def _resampled_pearson(predictions: Values, labels: Values, counts: Counts) -> Figures:
    rows = counts.sum(-1)
    left, right = (values - values.mean() for values in (predictions, labels))
    means = [counts @ values / rows for values in (left, right)]
    covariance = counts @ (left * right) / rows - means[0] * means[1]
    variances = []
    for values, mean in zip((left, right), means, strict=True):
        square = counts @ values**2 / rows
        variance = square - mean**2
        variances.append(np.where(variance > 1e-12 * square, variance, 0))  # what rounding leaves of a constant
    return _ratio(covariance, np.sqrt(variances[0] * variances[1]))


def _resampled_spearman(predictions: Values, labels: Values, counts: Counts) -> Figures:
    left, right = (_ranks(values, counts) for values in (predictions, labels))
    covariance, *variances = (
        np.einsum("sr,sr,sr->s", counts, one, other) for one, other in ((left, right), (left, left), (right, right))
    )
    return _ratio(covariance, np.sqrt(variances[0] * variances[1]))


def _ranks(values: Values, counts: Counts) -> NDArray[np.float64]:
    """The mean rank of each row's value in each resample, less the mean of all: (resamples, rows)."""
    _, group, times = np.unique(values, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    sizes = np.add.reduceat(counts[:, order], times.cumsum() - times, axis=1)
    ranks = sizes.cumsum(axis=1) - (sizes + counts.sum(-1, keepdims=True)) / 2
    return ranks[:, group]


def _ratio(above: Figures, below: Figures) -> Figures:
    return np.divide(above, below, out=np.zeros(len(above)), where=below > 0)


def _constant(*columns: Values) -> bool:
    return any((values == values[0]).all() for values in columns)


def _of_class(metric: Metric, positive: int) -> Metric:
    """A metric of flags as one of classes: the flag is whether a class is `positive`."""
    return Metric(
        lambda predictions, labels: metric.value(predictions == positive, labels == positive),
        lambda predictions, labels, counts: metric.resampled(predictions == positive, labels == positive, counts),
    )


METRICS: dict[MetricName, Metric] = {
    "accuracy": Metric(accuracy, _resampled_accuracy),
    "f1": Metric(f1, _resampled_f1),
    "matthews": Metric(matthews, _resampled_matthews),
    "pearson": Metric(pearson, _resampled_pearson),
    "spearman": Metric(spearman, _resampled_spearman),
}
