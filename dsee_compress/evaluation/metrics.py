"""The metrics of every task; those of labels are here, those of texts in `text_metrics`."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checkpoint import Task
from ..configs import METRICS_OF, MetricName
from . import text_metrics
from .bootstrap import Counts, Figures, Metric, Statistics
from .inputs import Batch, Forward, Logits

Values = NDArray[Any]
"""Predictions or labels, (rows,): indices of classes, or numbers."""


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


def _of_labels(
    value: Callable[[Values, Values], float], resampled: Callable[[Values, Values, Counts], Figures]
) -> Metric:
    """A metric of predictions and labels: 1 is perfect, and 0 stands for what is not defined (a constant, say).

    Its statistics are the label and the prediction themselves.
    """

    def of_columns(statistics: Statistics, counts: Counts) -> Figures:
        labels, predictions = statistics.T
        return resampled(predictions, labels, counts)

    return Metric(value, lambda predictions, labels: np.column_stack([labels, predictions]), of_columns)


def _of_class(metric: Metric, positive: int) -> Metric:
    """A metric of flags as one of classes: the flag is whether a class is `positive`."""
    return Metric(
        lambda predictions, labels: metric.value(predictions == positive, labels == positive),
        lambda predictions, labels: metric.statistics(predictions == positive, labels == positive),
        metric.resampled,
    )


METRICS: dict[MetricName, Metric] = {
    "accuracy": _of_labels(accuracy, _resampled_accuracy),
    "f1": _of_labels(f1, _resampled_f1),
    "matthews": _of_labels(matthews, _resampled_matthews),
    "pearson": _of_labels(pearson, _resampled_pearson),
    "spearman": _of_labels(spearman, _resampled_spearman),
    **text_metrics.METRICS,
}
