"""What a metric is: how it is computed on rows and on resamples of them, how it is written, which way is better."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Statistics = NDArray[Any]
"""What a metric keeps of each row, (rows, statistics)."""
Figures = NDArray[np.float64]
"""A metric on every resample, (resamples,)."""
Counts = NDArray[np.float64]
"""How many times each resample drew each row, (resamples, rows)."""


@dataclass(frozen=True)
class Metric:
    """How well predictions meet the truth."""

    name: str
    title: str
    """As it stands in a sentence."""
    value: Callable[[Any, Any], float]
    """Of predictions and the truth."""
    statistics: Callable[[Any, Any], Statistics]
    """Of predictions and the truth: all that the metric depends on, row by row."""
    resampled: Callable[[Statistics, Counts], Figures]
    """The metric of every resample, from the statistics of its rows."""
    scale: int = 1
    """100 for shares, whose changes are in points; 1 for what is written as it is."""
    unit: str = ""
    """What stands behind a figure."""
    lower_is_better: bool = False

    @property
    def heading(self) -> str:
        """The title at the start of a line."""
        return self.title[0].upper() + self.title[1:]

    def figure(self, value: float, sign: str = "", digits: int = 2) -> str:
        """`value`, 85.16%, 85.16 or 0.8516; with `sign` "+" as a change, of a metric or of what is allowed."""
        return f"{value * self.scale:{sign}.{digits if self.scale == 100 else digits + 2}f}{self.unit}"

    def allowed(self, drop: float) -> float:
        """The change of the metric to which an allowed drop comes."""
        return drop if self.lower_is_better else -drop


def of_sums(
    name: str,
    title: str,
    statistics: Callable[[Any, Any], Statistics],
    score: Callable[[Statistics], Figures],
    scale: int = 1,
    unit: str = "",
    lower_is_better: bool = False,
) -> Metric:
    """A metric that depends on the sums of its statistics alone; `score` takes them, (resamples, statistics)."""

    def value(predictions: Any, truth: Any) -> float:
        return float(score(statistics(predictions, truth).sum(0, keepdims=True, dtype=np.float64))[0])

    def resampled(rows: Statistics, counts: Counts) -> Figures:
        return score(counts @ rows)

    return Metric(name, title, value, statistics, resampled, scale, unit, lower_is_better)


def ratio(above: Figures, below: Figures) -> Figures:
    """The quotient; 0 where it is not defined."""
    return np.divide(above, below, out=np.zeros_like(below), where=below > 0)
