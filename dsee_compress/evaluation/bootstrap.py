"""What a sample can tell of a metric: bootstrap intervals, single and paired, and verdicts on them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

from ..metrics import Figures, Metric

Verdict = Literal["proven", "within noise", "failed"]
_BLOCK = 2**20
"""Counts that are held in memory at once."""


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __neg__(self) -> "Interval":
        return Interval(-self.value, -self.high, -self.low)

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


def bootstrap(
    metric: Metric, predictions: Mapping[str, Any], truth: Any, *, resamples: int = 2000, seed: int = 0
) -> dict[str, Sampled]:
    """The metric of each model's predictions, on all rows and on resamples that the models share.

    Rows with equal statistics are alike, so drawing how often each distinct one comes is drawing rows.
    """
    models = [metric.statistics(values, truth) for values in predictions.values()]
    ends = np.cumsum([model.shape[1] for model in models])
    rows, times = np.unique(np.concatenate(models, axis=1), axis=0, return_counts=True)
    distinct = np.split(rows, ends[:-1], axis=1)
    generator = np.random.default_rng(seed)
    size = max(1, _BLOCK // len(rows))
    blocks = []
    for start in range(0, resamples, size):
        drawn = generator.multinomial(times.sum(), times / times.sum(), size=min(size, resamples - start))
        counts = drawn.astype(np.float64)
        blocks.append([metric.resampled(model, counts) for model in distinct])
    return {
        name: Sampled(metric.value(values, truth), figures)
        for (name, values), figures in zip(predictions.items(), np.concatenate(blocks, axis=1), strict=True)
    }


def judge(gain: Interval, max_drop: float) -> Verdict:
    """Whether a gain of the metric keeps to the allowed drop, judged on its paired interval.

    A gain is a change for the better, and below 0 for the worse: of a metric that should be low, its change negated.

    `proven`: even the interval's lower end does. `failed`: the measured drop is larger than allowed and the
    interval excludes that there is none. `within noise`: the sample is too small to say.
    """
    if gain.low >= -max_drop:
        return "proven"
    if gain.value < -max_drop and gain.high < 0:
        return "failed"
    return "within noise"
