"""int8 weights rounded so that products come out right on examples, not each weight to its nearest level.

Rows of a weight are rounded one by one, and those still to come make up for the error of each, as far as the inputs'
second moments say that they can: GPTQ (Frantar et al., ICLR 2023, arXiv 2210.17323), here with a scale a column. It
costs nothing at inference, and counts most where weights have seven bits.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..evaluation.inputs import Batch
from . import files, probe

Array = NDArray[np.float32]
TOKENS = 8192
"""So many, and the rest of their batch, give the moments."""
_DAMPING = 0.01
"""What is added to the moments' diagonal, as a share of its mean: for channels that the examples hardly use."""
_BLOCK = 64
"""Rows whose errors are passed on together to those behind them."""


def fit(source: Path, quantised: Path, batches: list[Batch]) -> None:
    """Round anew, in the scales that they have, those weights of `quantised` that are int8.

    source: the same graph in fp32; batches: examples.
    """
    import onnx

    full, lower = files.load(source), files.load(quantised)
    products = probe.products(full.model.graph) + full.get_nodes_by_op_type("Attention")
    inputs = {
        node.input[1]: node.input[0]
        for node in probe.matrices(full, products)
        if lower.get_initializer(f"{node.input[1]}_quantized") is not None
    }
    moments: dict[str, NDArray[np.float64]] = {}
    for found in probe.tensors(source, sorted({*inputs.values()}), probe.pieces(batches, TOKENS)):
        for name, array in found.items():
            rows = array.reshape(-1, array.shape[-1])
            moments[name] = moments.get(name, 0) + (rows.T @ rows).astype(np.float64)
    for weight, tensor in inputs.items():
        kept = lower.get_initializer(f"{weight}_quantized")
        scale = lower.get_constant_value(f"{weight}_scale")
        # The largest weight of a column has the last level.
        levels = int(np.abs(onnx.numpy_helper.to_array(kept).astype(int)).max())
        rounded = fitted(full.get_constant_value(weight), scale, levels, moments[tensor])
        kept.CopyFrom(onnx.numpy_helper.from_array(rounded, kept.name))
    files.save(lower, quantised)


def fitted(weight: Array, scale: Array, levels: int, moments: NDArray[np.float64]) -> NDArray[np.int8]:
    """The levels of a weight, (channels, out), each within ±`levels`; what is pruned, 0, stays 0.

    scale: of a level, (out,); moments: Σ x xᵀ of the product's inputs, (channels, channels).
    """
    order = np.argsort(-np.diag(moments), kind="stable")
    rest, moments = weight[order].astype(np.float64), moments[np.ix_(order, order)]
    present = rest != 0
    moments[np.diag_indices_from(moments)] += _DAMPING * np.diag(moments).mean() or 1.0
    inverse = np.linalg.cholesky(np.linalg.inv(moments)).T
    found = np.empty_like(rest)
    for start in range(0, len(rest), _BLOCK):
        end = min(start + _BLOCK, len(rest))
        errors = np.empty_like(rest[start:end])
        for row in range(start, end):
            found[row] = np.clip(np.rint(rest[row] / scale), -levels, levels) * present[row]
            errors[row - start] = (rest[row] - found[row] * scale) / inverse[row, row]
            rest[row + 1 : end] -= np.outer(inverse[row, row + 1 : end], errors[row - start])
        rest[end:] -= inverse[start:end, end:].T @ errors
    levels_of = np.empty(found.shape, np.int8)
    levels_of[order] = found
    return levels_of
