"""How well answers meet the truth: each metric whole, and which of them judge a task."""

from .labels import CLASSES, NUMBERS, of_class
from .metric import Counts, Figures, Metric, Statistics
from .texts import TEXTS, Written

__all__ = ["METRICS", "OF_TASK", "Counts", "Figures", "Metric", "Statistics", "Written", "of_class"]

OF_TASK: dict[str, tuple[Metric, ...]] = {"classification": CLASSES, "regression": NUMBERS, "generation": TEXTS}
"""The metrics of each task, its default first."""
METRICS: dict[str, Metric] = {metric.name: metric for metrics in OF_TASK.values() for metric in metrics}
"""All of them, by name."""
