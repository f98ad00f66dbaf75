"""From scores and a budget to what each layer keeps. Pure functions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..costs.cost import Cost
from ..store.structure import Structure

Allocation = Literal["per-layer", "global"]
_ROUNDING = 1e-12
"""A budget that is a share of a cost comes out so much, relative to it, too small."""


class OverBudgetError(ValueError):
    """Even the smallest structure costs more than the budget."""


@dataclass(frozen=True)
class UnitScores:
    """One tensor a layer: heads[i] (heads of layer i), neurons[i] (neurons of layer i)."""

    heads: list[Tensor]
    neurons: list[Tensor]


@dataclass(frozen=True)
class Cut:
    """Which units go when a share of them does."""

    allocation: Allocation = "per-layer"
    round_to: int = 1
    """A layer that loses neurons keeps the nearest multiple of it."""
    gone: float = 0.0
    """Share of the neurons that goes at the least."""

    def of(self, scores: UnitScores, heads: float, neurons: float) -> Structure:
        """What stays when these shares of the heads and of the neurons go."""
        return Structure(
            heads=keep(scores.heads, heads, self.allocation),
            neurons=keep(scores.neurons, max(neurons, self.gone), self.allocation, self.round_to),
        )


def solve(scores: UnitScores, cost: Cost, budget: float, cut: Cut) -> Structure:
    """A structure within `budget`, in the cost's unit: the same share of heads and of neurons goes, the smallest.

    A head is a coarse step, so neurons come back as far as heads overshot. Where a larger share costs more, as it may
    on a device, the structure keeps to the budget all the same, but may not be the largest that does. Raises
    OverBudgetError, which says what can be saved at most.
    """

    def fits(heads: float, neurons: float) -> bool:
        return cost.of(cut.of(scores, heads, neurons)) <= budget * (1 + _ROUNDING)

    if not fits(1.0, 1.0):
        most = 1 - cost.of(cut.of(scores, 1.0, 1.0)) / cost.of(everything(scores))
        raise OverBudgetError(f"at most {most:.1%} can be saved")
    share = smallest_share(lambda share: fits(share, share))
    return cut.of(scores, share, smallest_share(lambda neurons: fits(share, neurons), share))


def everything(scores: UnitScores) -> Structure:
    """The structure that keeps all units."""
    return Structure(
        heads=[list(range(len(layer))) for layer in scores.heads],
        neurons=[list(range(len(layer))) for layer in scores.neurons],
    )


def keep(scores: list[Tensor], share: float, allocation: Allocation, round_to: int = 1) -> list[list[int]]:
    """Indices that each layer keeps, ascending, when `share` of all units is removed.

    scores: a layer's scores (units), one tensor a layer. share: in [0, 1). `per-layer` removes
    floor(share · units) of each layer; `global` removes floor(share · all units), the lowest scores first
    wherever they are, but leaves each layer its best unit. Of equal scores the later unit goes first.
    round_to: a layer that loses units keeps the nearest multiple of it, at least one, at most what it has.
    """
    return [
        _best(layer, _rounded(count, len(layer), round_to))
        for layer, count in zip(scores, _counts(scores, share, allocation), strict=True)
    ]


def smallest_share(fits: Callable[[float], bool], known: float = 1.0, steps: int = 40) -> float:
    """The smallest share up to `known`, which fits, that does, too: by bisection, to 2^-steps."""
    low, high = 0.0, known
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def weight_masks(scores: list[Tensor], share: float, allocation: Allocation) -> list[Tensor]:
    """Masks S1 of single weights, of the scores' shapes, 1 where the weight stays.

    `per-layer` removes floor(share · entries) of each matrix, `global` of all matrices together.
    """
    if allocation == "global":
        together = _entry_mask(torch.cat([matrix.flatten() for matrix in scores]), share)
        parts = together.split([matrix.numel() for matrix in scores])
    else:
        parts = tuple(_entry_mask(matrix.flatten(), share) for matrix in scores)
    return [part.view_as(matrix) for part, matrix in zip(parts, scores, strict=True)]


def semi_structured_mask(scores: Tensor, kept: int, group: int) -> Tensor:
    """A mask S1 that keeps the best `kept` of every `group` neighbours in a row (2:4, say; Mishra et al., 2021).

    scores: (d_out, d_in). Raises ValueError if `group` does not divide d_in.
    """
    if scores.shape[1] % group:
        raise ValueError(f"rows of {scores.shape[1]} weights do not divide into groups of {group}")
    groups = scores.unflatten(1, (-1, group))
    best = torch.argsort(groups, dim=-1, descending=True, stable=True)[..., :kept]
    return torch.zeros_like(groups).scatter(-1, best, 1.0).flatten(1)


def _counts(scores: list[Tensor], share: float, allocation: Allocation) -> list[int]:
    if allocation == "per-layer":
        return [len(layer) - min(_part(share, layer), len(layer) - 1) for layer in scores]
    together = torch.cat([layer.index_fill(0, torch.tensor(_best(layer, 1)), float("inf")) for layer in scores])
    removed = min(_part(share, together), len(together) - len(scores))
    kept = torch.zeros(len(together), dtype=torch.int64)
    kept[_best(together, len(together) - removed)] = 1
    return [int(part.sum()) for part in kept.split([len(layer) for layer in scores])]


def _rounded(count: int, units: int, multiple: int) -> int:
    return count if count == units else min(max(round(count / multiple), 1) * multiple, units)


def _part(share: float, units: Tensor) -> int:
    """floor(share · units), exact for shares such as 0.29 that binary fractions fall just short of."""
    return int(share * len(units) + 1e-9)


def _best(scores: Tensor, count: int) -> list[int]:
    order = torch.argsort(scores, descending=True, stable=True)
    return sorted(order[:count].tolist())


def _entry_mask(scores: Tensor, share: float) -> Tensor:
    order = torch.argsort(scores, stable=True)
    mask = torch.ones_like(scores)
    mask[order[: _part(share, scores)]] = 0
    return mask
