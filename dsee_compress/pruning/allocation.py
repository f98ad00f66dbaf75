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
        return [_best(layer, len(layer) - min(int(share * len(layer)), len(layer) - 1)) for layer in scores]
    protected = [float("inf") * (torch.arange(len(layer)) == _best(layer, 1)[0]) for layer in scores]
    lifted = torch.cat([torch.where(guard > 0, guard, layer) for guard, layer in zip(protected, scores, strict=True)])
    removed = min(int(share * len(lifted)), len(lifted) - len(scores))
    kept = torch.zeros(len(lifted), dtype=torch.bool)
    kept[_best(lifted, len(lifted) - removed)] = True
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


def _best(scores: Tensor, count: int) -> list[int]:
    order = torch.argsort(scores, descending=True, stable=True)
    return sorted(order[:count].tolist())


def _entry_mask(scores: Tensor, share: float) -> Tensor:
    order = torch.argsort(scores, stable=True)
    mask = torch.ones_like(scores)
    mask[order[: int(share * len(scores))]] = 0
    return mask
