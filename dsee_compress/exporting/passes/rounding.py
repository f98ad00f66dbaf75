"""int8 weights rounded so that products come out right on examples, not each weight to its nearest level.

Rows of a weight are rounded one by one, and those still to come make up for the error of each, as far as the inputs'
second moments say that they can: GPTQ (Frantar et al., ICLR 2023, arXiv 2210.17323), here with a scale a column. It
costs nothing at inference, and counts most where weights have seven bits.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...evaluation.inputs import Batch
from .. import probe

Array = NDArray[np.float32]
TOKENS = 8192
"""So many, and the rest of their batch, give the moments."""
AT_ONCE = 1_200_000_000
"""Bytes of moments that are held at once: those of all products of BERT-base, and no more of a larger model."""
_DAMPING = 0.01
"""What is added to the moments' diagonal, as a share of its mean: for channels that the examples hardly use."""
_BLOCK = 64
"""Rows whose errors are passed on together to those behind them."""


def fit(model: Any, source: Any, batches: list[Batch]) -> None:
    """Round anew, in the scales that they have, those weights of an OnnxModel that are int8 by now.

    source: the OnnxModel in fp32 that it was made from; batches: examples, which are looked at as often as the moments
    of all products are too many to be held AT_ONCE.
    """
    quantised = {entry.name: entry for entry in model.model.graph.initializer}
    products = probe.products(source.model.graph) + source.get_nodes_by_op_type("Attention")
    reading: dict[str, list[str]] = {}
    for node in probe.matrices(source, products):
        reading.setdefault(node.input[0], []).append(node.input[1])
    names, pieces = sorted(reading), probe.pieces(batches, TOKENS)
    channels = {name: source.get_initializer(reading[name][0]).dims[0] for name in names}
    for some in _together(channels):
        # All tensors are asked for each time: what else is asked for may change how a graph is computed.
        moments = _moments(probe.tensors(source, names, pieces), some)
        for name in some:
            for weight in reading[name]:
                if f"{weight}_quantized" in quantised:
                    _fit(quantised, weight, source.get_constant_value(weight), moments[name])
            del moments[name]


def _together(channels: dict[str, int]) -> Iterator[list[str]]:
    """The tensors of so many channels in groups whose moments are held at once."""
    group: list[str] = []
    size = 0
    for name, count in channels.items():
        own = 8 * count**2
        if group and size + own > AT_ONCE:
            yield group
            group, size = [], 0
        group.append(name)
        size += own
    if group:
        yield group


def _moments(seen: Iterator[dict[str, Array]], names: list[str]) -> dict[str, NDArray[np.float64]]:
    """Σ x xᵀ of the rows of some of the tensors that are seen, (channels, channels)."""
    moments: dict[str, NDArray[np.float64]] = {}
    for found in seen:
        for name in names:
            rows = found[name].reshape(-1, found[name].shape[-1])
            moments[name] = moments.get(name, 0) + (rows.T @ rows).astype(np.float64)
    return moments


def _fit(quantised: Mapping[str, Any], name: str, weight: Array, moments: NDArray[np.float64]) -> None:
    import onnx

    kept, scale = quantised[f"{name}_quantized"], onnx.numpy_helper.to_array(quantised[f"{name}_scale"])
    # The largest weight of a column has the last level.
    levels = int(np.abs(onnx.numpy_helper.to_array(kept).astype(int)).max())
    kept.CopyFrom(onnx.numpy_helper.from_array(fitted(weight, scale, levels, moments), kept.name))


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
