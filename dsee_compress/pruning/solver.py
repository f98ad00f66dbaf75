"""The least loss within a budget: a multiple-choice knapsack (Kellerer et al., "Knapsack Problems", 2004, chapter 11).

Each layer's attention and each layer's FFN is a choice of how many units it keeps. What a choice loses is the sum of
the scores of the units that go, what it costs stands in a table; both add up over the parts of a model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..costs.table import Curve, Table
from ..store.structure import Structure
from .allocation import OverBudgetError, UnitScores

Floats = NDArray[np.float64]
FRONTIER = 20_000
"""Partial choices that are looked at together. While there are no more than that, none is left out."""
_ROUNDING = 1e-12
"""What a sum of costs may be beyond the budget, relative to it."""


@dataclass(frozen=True)
class Solution:
    """A structure within a budget."""

    structure: Structure
    cost: float
    """In the table's unit."""
    loss: float
    """The sum of the scores of the units that go."""
    bound: float
    """No structure within the budget loses less: `loss` itself, where that is known."""


@dataclass(frozen=True)
class _Part:
    """The choices of a layer's attention or FFN."""

    counts: list[int]
    costs: Floats
    losses: Floats
    best: list[int]
    """Its units, the best first."""


def solve(scores: UnitScores, table: Table, budget: float) -> Solution:
    """The structure that loses least of those that cost at most `budget`, in the table's unit.

    Of each part the best units stay; of equal scores the earlier. Units that score minus infinity are gone already, and
    stay gone. Exact where no more than `FRONTIER` partial choices are worth a look at any time; beyond, `bound` is that
    of the Lagrangian relaxation. Raises OverBudgetError, which says what is possible, if even the cheapest structure
    costs more.
    """
    curves = (*table.heads, *table.neurons)
    parts = [_part(units, curve) for units, curve in zip((*scores.heads, *scores.neurons), curves, strict=True)]
    available = budget * (1 + _ROUNDING) - table.elsewhere
    least = sum(part.costs.min() for part in parts)
    if least > available:
        raise OverBudgetError(f"at least {table.elsewhere + least:.4g} {table.unit} are needed")
    choices, exact = _choose(parts, available)
    kept = [sorted(part.best[: part.counts[choice]]) for part, choice in zip(parts, choices, strict=True)]
    loss = float(sum(part.losses[choice] for part, choice in zip(parts, choices, strict=True)))
    cost = float(sum(part.costs[choice] for part, choice in zip(parts, choices, strict=True)))
    return Solution(
        Structure(heads=kept[: len(scores.heads)], neurons=kept[len(scores.heads) :]),
        table.elsewhere + cost,
        loss,
        loss if exact else min(loss, _bound(parts, available)),
    )


def _part(scores: Tensor, curve: Curve) -> _Part:
    order = torch.argsort(scores, descending=True, stable=True)
    there = int((scores > -torch.inf).sum())
    falling = scores[order[:there]].double()
    lost = torch.cat([torch.zeros(1, dtype=torch.float64), falling.flip(0).cumsum(0)])  # by how many go
    # What has fewer units than any count of the curve stays as it is.
    counts = [count for count in curve.counts if count <= there] or [there]
    return _Part(
        counts,
        np.array([curve.at(count) for count in counts]),
        lost[[there - count for count in counts]].numpy(),
        order.tolist(),
    )


def _choose(parts: Sequence[_Part], available: float) -> tuple[list[int], bool]:
    """The choice of each part, and whether no better one was left out on the way."""
    costs, losses, exact = np.zeros(1), np.zeros(1), True
    steps: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    still = sum(part.costs.min() for part in parts)
    for part in parts:
        still -= part.costs.min()
        cost = (costs[:, None] + part.costs).ravel()
        loss = (losses[:, None] + part.losses).ravel()
        possible = np.flatnonzero(cost + still <= available)
        if not len(possible):  # what was added up in another order may come out a rounding dearer
            possible = np.array([cost.argmin()])
        picked = possible[_worth_a_look(cost[possible], loss[possible])]
        if len(picked) > FRONTIER:
            exact = False
            picked = picked[_spread(cost[picked])]
        costs, losses = cost[picked], loss[picked]
        steps.append((picked // len(part.costs), picked % len(part.costs)))
    place, choices = int(losses.argmin()), []
    for before, choice in reversed(steps):
        choices.append(int(choice[place]))
        place = int(before[place])
    return choices[::-1], exact


def _worth_a_look(cost: Floats, loss: Floats) -> NDArray[np.int64]:
    """Those that nothing beats in both, by falling loss and rising cost."""
    order = np.lexsort((loss, cost))
    lowest = np.minimum.accumulate(loss[order])
    return order[np.concatenate([[True], lowest[1:] < lowest[:-1]])]


def _spread(cost: Floats) -> NDArray[np.int64]:
    """Of each of `FRONTIER` even ranges of costs the dearest, which loses least, and the cheapest of all."""
    ranges = np.floor((cost - cost[0]) / (cost[-1] - cost[0]) * (FRONTIER - 1))
    last = np.append(ranges[1:] != ranges[:-1], True)
    last[0] = True
    return np.flatnonzero(last)


def _bound(parts: Sequence[_Part], available: float) -> float:
    """The best bound of the Lagrangian relaxation: max over prices ≥ 0 of Σ min (loss + price · cost) − price · budget.

    Concave in the price, with the budget less the relaxed choice's cost for a slope, so bisected.
    """

    def relaxed(price: float) -> tuple[float, float]:
        chosen = [int((part.losses + price * part.costs).argmin()) for part in parts]
        loss = sum(part.losses[choice] for part, choice in zip(parts, chosen, strict=True))
        cost = sum(part.costs[choice] for part, choice in zip(parts, chosen, strict=True))
        return float(loss + price * (cost - available)), float(cost)

    low, high = 0.0, 1.0
    while relaxed(high)[1] > available and high < 1e300:
        high *= 2
    best = max(relaxed(low)[0], relaxed(high)[0])
    for _ in range(100):
        middle = (low + high) / 2
        value, cost = relaxed(middle)
        best = max(best, value)
        low, high = (middle, high) if cost > available else (low, middle)
    return best
