"""The metrics of entities: one set a row. Right is what agrees in beginning, end and type.

As CoNLL-2003 counts (Tjong Kim Sang and De Meulder, 2003): over the entities of all rows together. What is not defined,
precision without a prediction say, is 0.
"""

from collections.abc import Callable, Sequence

import numpy as np

from .metric import Counts, Figures, Metric, Statistics

Entities = Sequence[set[tuple[int, int, str]]]


def of_type(metric: Metric, kind: str) -> Metric:
    """A metric of all entities as one of a type's."""

    def chosen(rows: Entities) -> Entities:
        return [{entity for entity in row if entity[2] == kind} for row in rows]

    return Metric(
        f"{metric.name}:{kind}",
        f"{metric.title} of {kind}",
        lambda found, true: metric.value(chosen(found), chosen(true)),
        lambda found, true: metric.statistics(chosen(found), chosen(true)),
        metric.resampled,
        metric.scale,
        metric.unit,
    )


def _counts(found: Entities, true: Entities) -> Statistics:
    """How many of a row's entities are right, found and true."""
    rows = [(len(ours & theirs), len(ours), len(theirs)) for ours, theirs in zip(found, true, strict=True)]
    return np.array(rows, dtype=np.float64)


def _ratio(above: Figures, below: Figures) -> Figures:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _metric(name: str, title: str, score: Callable[[Statistics], Figures]) -> Metric:
    def value(found: Entities, true: Entities) -> float:
        return float(score(_counts(found, true).sum(0, keepdims=True))[0])

    def resampled(rows: Statistics, counts: Counts) -> Figures:
        return score(counts @ rows)

    return Metric(name, title, value, _counts, resampled, 100, "%")


SPANS = (
    _metric("entity_f1", "entity F1", lambda sums: _ratio(2 * sums[:, 0], sums[:, 1] + sums[:, 2])),
    _metric("entity_precision", "entity precision", lambda sums: _ratio(sums[:, 0], sums[:, 1])),
    _metric("entity_recall", "entity recall", lambda sums: _ratio(sums[:, 0], sums[:, 2])),
)
