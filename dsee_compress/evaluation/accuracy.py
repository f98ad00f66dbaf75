"""The task's metric, with what its sample can tell: bootstrap intervals, single and paired."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .inputs import Batch, Forward, Logits

Verdict = Literal["proven", "within noise", "failed"]


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, Any]:
        """The form that report.json uses."""
        return {"value": self.value, "ci95": [self.low, self.high]}


def predict(forward: Forward, batches: list[Batch]) -> Logits:
    """Logits of all rows, (rows, labels)."""
    return np.concatenate([forward(batch) for batch in batches])


def accuracy_interval(correct: NDArray[np.bool_], *, resamples: int = 2000, seed: int = 0) -> Interval:
    """Accuracy from one flag a row, with a percentile bootstrap interval over rows."""
    low, high = _interval_of_mean(correct.astype(np.int64), resamples, seed)
    return Interval(float(correct.mean()), low, high)


def paired_interval(
    candidate: NDArray[np.bool_], reference: NDArray[np.bool_], *, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Accuracy of `candidate` minus that of `reference` on the same rows, resampled together."""
    difference = candidate.astype(np.int64) - reference.astype(np.int64)
    low, high = _interval_of_mean(difference, resamples, seed)
    return Interval(float(difference.mean()), low, high)


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


def _interval_of_mean(values: NDArray[np.int64], resamples: int, seed: int) -> tuple[float, float]:
    """The percentile bootstrap of a mean. Rows with equal values are alike, so counting them is resampling them."""
    distinct, counts = np.unique(values, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(values), counts / len(values), size=resamples)
    low, high = np.percentile(drawn @ distinct / len(values), [2.5, 97.5])
    return float(low), float(high)
