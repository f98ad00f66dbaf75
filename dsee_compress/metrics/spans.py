"""The metrics of entities: one set a row. Right is what agrees in beginning, end and type.

As CoNLL-2003 counts (Tjong Kim Sang and De Meulder, 2003): over the entities of all rows together. What is not defined,
precision without a prediction say, is 0.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .metric import Metric, Statistics, of_sums, ratio

Entities = Sequence[set[tuple[int, int, str]]]


def of_type(metric: Metric, kind: str) -> Metric:
    """A metric of all entities as one of a type's."""

    def chosen(rows: Entities) -> Entities:
        return [{entity for entity in row if entity[2] == kind} for row in rows]

    return replace(
        metric,
        name=f"{metric.name}:{kind}",
        title=f"{metric.title} of {kind}",
        value=lambda found, true: metric.value(chosen(found), chosen(true)),
        statistics=lambda found, true: metric.statistics(chosen(found), chosen(true)),
    )


def _counts(found: Entities, true: Entities) -> Statistics:
    """How many of a row's entities are right, found and true."""
    rows = [(len(ours & theirs), len(ours), len(theirs)) for ours, theirs in zip(found, true, strict=True)]
    return np.array(rows, dtype=np.float64)


SPANS = (
    of_sums("entity_f1", "entity F1", _counts, lambda sums: ratio(2 * sums[:, 0], sums[:, 1] + sums[:, 2]), 100, "%"),
    of_sums("entity_precision", "entity precision", _counts, lambda sums: ratio(sums[:, 0], sums[:, 1]), 100, "%"),
    of_sums("entity_recall", "entity recall", _counts, lambda sums: ratio(sums[:, 0], sums[:, 2]), 100, "%"),
)
