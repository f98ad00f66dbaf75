"""The metrics of several labels a row: predictions and truth are flags, (rows, labels).

A label that is neither predicted nor true counts as 0, as where precision or recall is not defined.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .metric import Counts, Figures, Metric, Statistics

Flags = NDArray[np.bool_]


def _flags(predictions: Flags, truth: Flags) -> Statistics:
    """Of each row the flags themselves, those that are right first: (rows, 3 · labels)."""
    return np.concatenate([predictions & truth, predictions, truth], axis=1)


def _f1(right: Figures, predicted: Figures, true: Figures) -> Figures:
    below = predicted + true
    return np.divide(2 * right, below, out=np.zeros_like(below), where=below > 0)


def _micro(sums: Statistics) -> Figures:
    """Over all labels together."""
    return _f1(*(part.sum(-1) for part in np.split(sums, 3, axis=-1)))


def _macro(sums: Statistics) -> Figures:
    """The mean over labels."""
    found: Figures = _f1(*np.split(sums, 3, axis=-1)).mean(-1)
    return found


def _metric(name: str, title: str, score: Callable[[Any], Figures]) -> Metric:
    def value(predictions: Flags, truth: Flags) -> float:
        return float(score(_flags(predictions, truth).sum(0, keepdims=True, dtype=np.float64))[0])

    def resampled(rows: Statistics, counts: Counts) -> Figures:
        return score(counts @ rows)

    return Metric(name, title, value, _flags, resampled, 100, "%")


LABEL_SETS = (_metric("micro_f1", "micro F1", _micro), _metric("macro_f1", "macro F1", _macro))
