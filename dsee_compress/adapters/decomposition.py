"""Where the sparse residual S2 lives: pure functions from a weight to its support Ω."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softshrink


def grebsmo(
    weight: Tensor, rank: int, *, threshold: float = 3.0, step: int = 4, sweeps: int = 3, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Greedy bilateral smoothing: weight ≈ left @ right + sparse (Zhou & Tao, AISTATS 2013).

    Alternates between the two low-rank factors, each the least-squares answer to the other, and the
    soft-thresholded rest. The rank grows greedily from 0 by `step`, along a sketch of the rest's row space, so
    that large single entries are in the sparse part before a factor can fit them.

    weight: (d_out, d_in). rank: of the low-rank part, cut to min(d_out, d_in). threshold: the soft threshold,
    in standard deviations of the weight (estimated by its median magnitude). sweeps: alternations at each rank.
    Returns left (d_out, rank), with orthonormal columns, right (rank, d_in) and sparse (d_out, d_in), float32.
    """
    target = weight.detach().float()
    rank = min(rank, *target.shape)
    cut = float(threshold * 1.4826 * target.abs().median())
    generator = torch.Generator(device="cpu").manual_seed(seed)
    left = target.new_zeros(target.shape[0], 0)
    right = target.new_zeros(0, target.shape[1])
    rest = target
    sparse = softshrink(rest, cut)
    while right.shape[0] < rank:
        grown = min(step, rank - right.shape[0])
        sketch = torch.randn(grown, target.shape[0], generator=generator).to(target.device)
        right = torch.cat([right, sketch @ (rest - sparse)])
        for _ in range(sweeps):
            smooth = target - sparse
            left = torch.linalg.qr(smooth @ right.T).Q
            right = left.T @ smooth
            rest = target - left @ right
            sparse = softshrink(rest, cut)
    return left, right, sparse


def grebsmo_residual(weight: Tensor, rank: int, seed: int) -> Tensor:
    """|weight - left @ right| of GreBsmo (paper, section 3.2).

    Soft-thresholding keeps the order of magnitudes, so the rest ranks the entries as the sparse part does, and orders
    those under the threshold too.
    """
    left, right, _ = grebsmo(weight, rank, seed=seed)
    return (weight - left @ right).abs()


def svd_residual(weight: Tensor, rank: int, seed: int) -> Tensor:
    """|weight - its best approximation of `rank`|, by truncated SVD (Eckart & Young, 1936)."""
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    return (weight - (left[:, :rank] * values[:rank]) @ right[:rank]).abs()


def magnitude(weight: Tensor, rank: int, seed: int) -> Tensor:
    """|weight|, whatever a low-rank part could reach of it."""
    return weight.abs()


def random(weight: Tensor, rank: int, seed: int) -> Tensor:
    """Uniform noise."""
    return torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed)).to(weight.device)


Decompose = Callable[[Tensor, int, int], Tensor]
"""From a weight (d_out, d_in), the update's rank and a seed to what ranks the weight's entries, of its shape."""
DECOMPOSITIONS: dict[str, Decompose] = {
    "grebsmo": grebsmo_residual,
    "magnitude": magnitude,
    "random": random,
    "svd": svd_residual,
}


def support(
    weight: Tensor, rank: int, count: int, *, decomposition: str = "grebsmo", seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Ω: the positions of the `count` entries of `weight` that `decomposition` ranks highest (paper, section 3.2).

    weight: (d_out, d_in). rank: of the low-rank part. Returns rows and columns, int64 (count,), in row-major order;
    of equal entries the first. Raises ValueError if the weight has fewer than `count` entries.
    """
    if count > weight.numel():
        raise ValueError(f"a matrix of {weight.numel()} entries has no support of {count}")
    if count == 0:
        return (torch.zeros(0, dtype=torch.int64, device=weight.device),) * 2
    ranked = DECOMPOSITIONS[decomposition](weight.detach().float(), rank, seed).flatten()
    lowest = ranked.topk(count).values[-1]
    above = (ranked > lowest).nonzero().flatten()
    level = (ranked == lowest).nonzero().flatten()
    flat = torch.cat([above, level[: count - len(above)]]).sort().values
    return flat // weight.shape[1], flat % weight.shape[1]
