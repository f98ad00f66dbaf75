"""int8 weights rounded so that products come out right on examples, not each weight to its nearest level.

Rows of a weight are rounded one by one, and those still to come make up for the error of each, as far as the inputs'
second moments say that they can: GPTQ (Frantar et al., ICLR 2023, arXiv 2210.17323), here with a scale a column. It
costs nothing at inference, and counts most where weights have seven bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...evaluation.inputs import Batch
from .. import probe

Array = NDArray[np.float32]
TOKENS = 8192
"""So many, and the rest of their batch, give the moments."""
_DAMPING = 0.01
"""What is added to the moments' diagonal, as a share of its mean: for channels that the examples hardly use."""
_BLOCK = 64
"""Rows whose errors are passed on together to those behind them."""


@dataclass(frozen=True)
class Seen:
    """A weight of a product, and what the product reads."""

    weight: Array
    """(channels, out), in fp32."""
    moments: NDArray[np.float64]
    """Σ x xᵀ of the inputs, (channels, channels)."""


def look(model: Any, batches: list[Batch]) -> dict[str, Seen]:
    """What is needed to round the weights of an OnnxModel in fp32, by their names; batches: examples."""
    products = probe.products(model.model.graph) + model.get_nodes_by_op_type("Attention")
    inputs = {node.input[1]: node.input[0] for node in probe.matrices(model, products)}
    moments: dict[str, NDArray[np.float64]] = {}
    for found in probe.tensors(model, sorted({*inputs.values()}), probe.pieces(batches, TOKENS)):
        for name, array in found.items():
            rows = array.reshape(-1, array.shape[-1])
            moments[name] = moments.get(name, 0) + (rows.T @ rows).astype(np.float64)
    return {weight: Seen(model.get_constant_value(weight), moments[tensor]) for weight, tensor in inputs.items()}


def fit(model: Any, seen: Mapping[str, Seen]) -> None:
    """Round anew, in the scales that they have, those weights of an OnnxModel that are int8 by now."""
    import onnx

    quantised = {entry.name: entry for entry in model.model.graph.initializer}
    for weight, of_it in seen.items():
        kept = quantised.get(f"{weight}_quantized")
        if kept is None:
            continue
        scale = onnx.numpy_helper.to_array(quantised[f"{weight}_scale"])
        # The largest weight of a column has the last level.
        levels = int(np.abs(onnx.numpy_helper.to_array(kept).astype(int)).max())
        rounded = fitted(of_it.weight, scale, levels, of_it.moments)
        kept.CopyFrom(onnx.numpy_helper.from_array(rounded, kept.name))


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
