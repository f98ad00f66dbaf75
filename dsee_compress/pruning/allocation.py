"""From scores and a budget to what each layer keeps. Pure functions."""

from typing import Literal

import torch
from torch import Tensor

Allocation = Literal["per-layer", "global"]


def keep(scores: list[Tensor], share: float, allocation: Allocation) -> list[list[int]]:
    """Indices that each layer keeps, ascending, when `share` of all units is removed.

    scores: a layer's scores (units), one tensor a layer. share: in [0, 1). `per-layer` removes
    floor(share · units) of each layer; `global` removes floor(share · all units), the lowest scores first
    wherever they are, but leaves each layer its best unit. Of equal scores the later unit goes first.
    """
    if allocation == "per-layer":
        return [_best(layer, len(layer) - min(_part(share, layer), len(layer) - 1)) for layer in scores]
    together = torch.cat([layer.index_fill(0, torch.tensor(_best(layer, 1)), float("inf")) for layer in scores])
    removed = min(_part(share, together), len(together) - len(scores))
    kept = torch.zeros(len(together), dtype=torch.bool)
    kept[_best(together, len(together) - removed)] = True
    return [part.nonzero().flatten().tolist() for part in kept.split([len(layer) for layer in scores])]


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
