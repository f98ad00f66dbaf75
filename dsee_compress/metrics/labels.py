"""The metrics of classes and of numbers: one prediction and one label a row."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .metric import Counts, Figures, Metric, Statistics, ratio

Values = NDArray[Any]
"""Predictions or labels, (rows,): indices of classes, or numbers."""


def of_class(metric: Metric, positive: int) -> Metric:
    """A metric of flags as one of classes: the flag is whether a class is `positive`."""
    return replace(
        metric,
        value=lambda predictions, labels: metric.value(predictions == positive, labels == positive),
        statistics=lambda predictions, labels: metric.statistics(predictions == positive, labels == positive),
    )


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
    return ratio(counts @ (predictions == labels), counts.sum(-1))


def _resampled_f1(predictions: Values, labels: Values, counts: Counts) -> Figures:
    return ratio(2 * (counts @ (predictions & labels)), counts @ predictions + counts @ labels)


def _resampled_matthews(predictions: Values, labels: Values, counts: Counts) -> Figures:
    # Gorodkin (2004): the covariance of two tables of indicators, (rows, classes).
    classes = np.union1d(predictions, labels)
    predicted, true = (counts @ (values[:, None] == classes) for values in (predictions, labels))
    rows = counts.sum(-1)
    covariance = rows * (counts @ (predictions == labels)) - (predicted * true).sum(-1)
    variances = (rows**2 - (predicted**2).sum(-1)) * (rows**2 - (true**2).sum(-1))
    return ratio(covariance, np.sqrt(variances))


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
    return ratio(covariance, np.sqrt(variances[0] * variances[1]))


def _resampled_spearman(predictions: Values, labels: Values, counts: Counts) -> Figures:
    left, right = (_ranks(values, counts) for values in (predictions, labels))
    covariance, *variances = (
        np.einsum("sr,sr,sr->s", counts, one, other) for one, other in ((left, right), (left, left), (right, right))
    )
    return ratio(covariance, np.sqrt(variances[0] * variances[1]))


def _ranks(values: Values, counts: Counts) -> NDArray[np.float64]:
    """The mean rank of each row's value in each resample, less the mean of all: (resamples, rows)."""
    _, group, times = np.unique(values, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    sizes = np.add.reduceat(counts[:, order], times.cumsum() - times, axis=1)
    ranks = sizes.cumsum(axis=1) - (sizes + counts.sum(-1, keepdims=True)) / 2
    return ranks[:, group]


def _constant(*columns: Values) -> bool:
    return any((values == values[0]).all() for values in columns)


def _statistics(predictions: Values, labels: Values) -> Statistics:
    """The label and the prediction themselves."""
    return np.column_stack([labels, predictions])


def _of_statistics(
    resampled: Callable[[Values, Values, Counts], Figures], statistics: Statistics, counts: Counts
) -> Figures:
    labels, predictions = statistics.T
    return resampled(predictions, labels, counts)


def _metric(
    name: str,
    title: str,
    value: Callable[[Values, Values], float],
    resampled: Callable[[Values, Values, Counts], Figures],
    scale: int = 1,
    unit: str = "",
) -> Metric:
    """A metric of predictions and labels: 1 is perfect, and 0 stands for what is not defined (a constant, say)."""
    return Metric(name, title, value, _statistics, partial(_of_statistics, resampled), scale, unit)


CLASSES = (
    _metric("accuracy", "accuracy", accuracy, _resampled_accuracy, 100, "%"),
    _metric("f1", "F1", f1, _resampled_f1, 100, "%"),
    _metric("matthews", "Matthews correlation", matthews, _resampled_matthews),
)
NUMBERS = (
    _metric("pearson", "Pearson correlation", pearson, _resampled_pearson),
    _metric("spearman", "Spearman correlation", spearman, _resampled_spearman),
)
