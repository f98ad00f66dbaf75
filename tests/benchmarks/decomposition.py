"""Seconds to place Ω in BERT-base's 24 query and value matrices (768 by 768, random), and the published loop's.

OMP_NUM_THREADS=2 python -m tests.benchmarks.decomposition
"""

import time

import torch
from torch import Tensor
from torch.nn.functional import softshrink

from dsee_compress.adapters.decomposition import DECOMPOSITIONS, support

MATRICES, SIZE, RANK, COUNT = 24, 768, 8, 64


def published(weight: Tensor, final_rank: int = 496, step: int = 16, threshold: float = 0.1) -> Tensor:
    """The greedy loop as the paper's authors run it: the rank grows to 496, with two QR decompositions a step."""
    right = torch.randn(step, weight.shape[1])
    sparse = torch.zeros_like(weight)
    while True:
        left = torch.linalg.qr((weight - sparse) @ right.T).Q
        right = torch.linalg.qr((weight - sparse).T @ left).Q.T
        core = left.T @ (weight - sparse) @ right.T
        rest = weight - left @ core @ right
        sparse = softshrink(rest, threshold)
        if len(right) >= final_rank:
            return rest
        right = torch.cat([right, torch.randn(step, len(weight)) @ (rest - sparse)])


def main() -> None:
    """Print one line a decomposition."""
    generator = torch.Generator().manual_seed(0)
    weights = [0.04 * torch.randn(SIZE, SIZE, generator=generator) for _ in range(MATRICES)]
    print(f"{MATRICES} matrices of {SIZE} by {SIZE}, rank {RANK}, N = {COUNT}, {torch.get_num_threads()} threads")
    for name in DECOMPOSITIONS:
        started = time.perf_counter()
        for weight in weights:
            support(weight, RANK, COUNT, decomposition=name)
        print(f"| {name} | {time.perf_counter() - started:.2f} s |", flush=True)
    started = time.perf_counter()
    for weight in weights:
        published(weight)
    print(f"| published loop, rank to 496 | {time.perf_counter() - started:.2f} s |")


if __name__ == "__main__":
    main()
