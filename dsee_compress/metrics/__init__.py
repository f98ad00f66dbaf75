"""How well answers meet the truth: each metric whole."""

from . import spans
from .label_sets import LABEL_SETS
from .labels import CLASSES, NUMBERS, of_class
from .metric import Counts, Figures, Metric, Statistics
from .spans import SPANS
from .texts import TEXTS, Written

__all__ = ["METRICS", "Counts", "Figures", "Metric", "Statistics", "Written", "named", "of_class"]

METRICS: dict[str, Metric] = {metric.name: metric for metric in (*CLASSES, *NUMBERS, *LABEL_SETS, *SPANS, *TEXTS)}
"""All of them, by name."""


def named(name: str) -> Metric:
    """The metric of a name, `entity_f1` say, or of one type of entities: `entity_f1:PER`."""
    general, _, kind = name.partition(":")
    return spans.of_type(METRICS[general], kind) if kind else METRICS[general]
