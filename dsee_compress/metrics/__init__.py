"""How well answers meet the truth: each metric whole."""

from .labels import CLASSES, NUMBERS, of_class
from .metric import Counts, Figures, Metric, Statistics
from .texts import TEXTS, Written

__all__ = ["METRICS", "Counts", "Figures", "Metric", "Statistics", "Written", "named", "of_class"]

METRICS: dict[str, Metric] = {metric.name: metric for metric in (*CLASSES, *NUMBERS, *TEXTS)}
"""All of them, by name."""


def named(name: str) -> Metric:
    """The metric of a name."""
    return METRICS[name]
