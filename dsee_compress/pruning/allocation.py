"""From scores and a budget to what each layer keeps. Pure functions."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Allocation = Literal["per-layer", "global"]


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


def share_for(saved: Callable[[float], float], target: float, steps: int = 40) -> float:
    """The smallest share, to 2^-steps, whose removal saves at least `target`, by bisection.

    saved: from a share in [0, 1] to what is saved, rising. Raises ValueError if even all does not save so much.
    """
    if saved(1.0) < target:
        raise ValueError(f"at most {saved(1.0):.1%} can be saved")
    low, high = 0.0, 1.0
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (low, middle) if saved(middle) >= target else (middle, high)
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
