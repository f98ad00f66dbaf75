"""Costs that add up: what each layer's attention costs by its heads, its FFN by its neurons, and the rest."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..store.structure import Structure

Unit = Literal["ms", "MB"]
"""What a figure counts: milliseconds of a call, or 10⁶ bytes of a file."""


@dataclass(frozen=True)
class Curve:
    """What a part of a layer costs by how many units it keeps."""

    counts: tuple[int, ...]
    """How many it may be asked to keep, ascending."""
    costs: tuple[float, ...]
    """What each of them costs."""

    def __post_init__(self) -> None:
        if not len(self.counts) == len(self.costs) > 0 or [*self.counts] != sorted({*self.counts}):
            raise ValueError("a curve is of ascending counts, with a cost each")

    def at(self, count: int) -> float:
        """The cost of any count: between two that are known, on the line through them."""
        return float(np.interp(count, self.counts, self.costs))


@dataclass(frozen=True)
class Table:
    """A `Cost` that is a sum, which solvers need."""

    unit: Unit
    elsewhere: float
    """What no structure changes: embeddings, the head, whatever a layer costs without its units."""
    heads: tuple[Curve, ...]
    """Of each layer's attention."""
    neurons: tuple[Curve, ...]
    """Of each layer's FFN."""

    def of(self, structure: Structure) -> float:
        """As `Cost.of`."""
        parts = zip((*self.heads, *self.neurons), (*structure.head_counts, *structure.neuron_counts), strict=True)
        return self.elsewhere + sum(curve.at(count) for curve, count in parts)

    @property
    def least(self) -> float:
        """What the cheapest structure costs."""
        return self.elsewhere + sum(min(curve.costs) for curve in (*self.heads, *self.neurons))
