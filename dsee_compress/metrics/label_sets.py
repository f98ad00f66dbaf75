"""The metrics of several labels a row: predictions and truth are flags, (rows, labels).

A label that is neither predicted nor true counts as 0, as where precision or recall is not defined.
"""

import numpy as np
from numpy.typing import NDArray

from .metric import Figures, Statistics, of_sums, ratio

Flags = NDArray[np.bool_]


def _flags(predictions: Flags, truth: Flags) -> Statistics:
    """Of each row the flags themselves, those that are right first: (rows, 3 · labels)."""
    return np.concatenate([predictions & truth, predictions, truth], axis=1)


def _f1(right: Figures, predicted: Figures, true: Figures) -> Figures:
    return ratio(2 * right, predicted + true)


def _micro(sums: Statistics) -> Figures:
    """Over all labels together."""
    return _f1(*(part.sum(-1) for part in np.split(sums, 3, axis=-1)))


def _macro(sums: Statistics) -> Figures:
    """The mean over labels."""
    found: Figures = _f1(*np.split(sums, 3, axis=-1)).mean(-1)
    return found


LABEL_SETS = (
    of_sums("micro_f1", "micro F1", _flags, _micro, 100, "%"),
    of_sums("macro_f1", "macro F1", _flags, _macro, 100, "%"),
)
