"""Channels that are far larger than all others, brought down to size before int8 rounds them.

Transformers put values tens of times as large as the rest into a few channels, most of all of the first token (massive
activations: Sun et al., arXiv 2402.17762); int8 has one scale for the whole tensor, and leaves the rest few of its
levels. As in SmoothQuant (Xiao et al., ICML 2023, arXiv 2211.10438), such a channel is multiplied by a factor below 1
before the product, and its row of the weight by the inverse. Here factors are powers of two, so in fp32 not a bit
changes; and since the multiplication is an operator of its own, only those products have one by which the logits gain.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...evaluation.inputs import Batch
from .. import probe

if TYPE_CHECKING:
    from onnx import NodeProto

Array = NDArray[np.float32]
TOKENS = 1024
"""So many, and the rest of their batch, say how large channels are."""
ENOUGH = 0.9
"""Of the noise of the logits that factors for all products would take away: as few have them as take so much."""
_LEAST_GAIN = 1.0
"""Decibels by which factors have to help a product itself to be tried for the logits."""
_LARGEST = (1, 2, 3, 4, 8, 16, 32, 64)
"""How many channels are brought to the size of the next, or half of it, in each trial."""
_SMALLEST = 2.0**-16
"""A channel counts as at least this share of the largest: factors stay far from where numbers end."""


@dataclass(frozen=True)
class _Equalised:
    """Products that read one tensor, and factors for its channels."""

    tensor: str
    products: list["NodeProto"]
    weights: list[Array]
    factors: Array


def equalise(model: Any, batches: list[Batch], levels: int) -> list[str]:
    """Bring outliers of what the products of an OnnxModel in fp32 read to size.

    batches: examples, which say how large channels are. levels: the largest int8 weight. Returns the names of the
    products whose inputs have factors.
    """
    pieces = probe.pieces(batches, TOKENS)
    reading: dict[str, list[NodeProto]] = {}
    for node in probe.matrices(model, probe.products(model.model.graph)):
        reading.setdefault(node.input[0], []).append(node)
    seen = [*probe.tensors(model, [*reading], pieces)]
    chosen = _enough(model, _gaining(model, reading, seen, levels), pieces[0], seen[0], levels)
    names = [node.name for equalised in chosen for node in equalised.products]
    for equalised in chosen:
        _multiply(model, equalised)
    model.topological_sort()
    return names


def factors_of(inputs: Array, weight: Array, levels: int) -> tuple[Array, float]:
    """The factors of the channels with which int8 adds least to a product, and how much less, in decibels.

    inputs: (tokens, channels); weight: (channels, out); levels: the largest int8 weight.
    """
    sizes = np.abs(inputs).max(axis=0)
    sizes = np.maximum(sizes, max(sizes.max() * _SMALLEST, np.finfo(np.float32).tiny))
    descending, exact = np.sort(sizes)[::-1], inputs @ weight
    factors = np.ones(len(sizes), np.float32)
    least = before = _power(_error(exact, inputs, weight, factors, levels))
    limits = descending[[count for count in _LARGEST if count < len(sizes)]]
    for limit in (*limits, *limits / 2):
        tried = np.exp2(-np.ceil(np.log2(np.maximum(sizes / limit, 1)))).astype(np.float32)
        added = _power(_error(exact, inputs, weight, tried, levels))
        if added < least:
            least, factors = added, tried
    return factors, float(10 * np.log10(before / least)) if least else 0.0


def _error(exact: Array, inputs: Array, weight: Array, factors: Array, levels: int) -> Array:
    """What dynamic int8 adds to a product."""
    rounded = _rounded_inputs(inputs * factors) @ _rounded_weight(weight / factors[:, None], levels)
    return rounded - exact


def _rounded_inputs(inputs: Array) -> Array:
    """As ONNX's DynamicQuantizeLinear rounds a tensor, to 256 levels from least to largest."""
    low, high = min(float(inputs.min()), 0.0), max(float(inputs.max()), 0.0)
    scale = (high - low) / 255 or 1.0
    zero_point = np.rint(-low / scale)
    return ((np.clip(np.rint(inputs / scale) + zero_point, 0, 255) - zero_point) * scale).astype(np.float32)


def _rounded_weight(weight: Array, levels: int) -> Array:
    """Columns rounded to as many levels on each side of zero."""
    scale = np.abs(weight).max(axis=0) / levels
    scale[scale == 0] = 1
    return (np.rint(weight / scale) * scale).astype(np.float32)


def _power(error: Array) -> float:
    return float(np.square(error).mean(dtype=np.float64))


def _gaining(
    model: Any, reading: dict[str, list["NodeProto"]], seen: list[dict[str, Array]], levels: int
) -> list[_Equalised]:
    """Those whose factors help the products themselves.

    reading: the products of each tensor; seen: what the tensors hold.
    """
    found = []
    for tensor, nodes in reading.items():
        inputs = np.concatenate([arrays[tensor].reshape(-1, arrays[tensor].shape[-1]) for arrays in seen])
        weights = [model.get_constant_value(node.input[1]) for node in nodes]
        factors, gain = factors_of(inputs, np.concatenate(weights, axis=1), levels)
        if gain >= _LEAST_GAIN:
            found.append(_Equalised(tensor, nodes, weights, factors))
    return found


def _enough(model: Any, found: list[_Equalised], batch: Batch, seen: dict[str, Array], levels: int) -> list[_Equalised]:
    """The fewest that take away ENOUGH: the noise of each product alone is added to it in fp32, and seen in the logits.

    Noise of different products is independent, so what they add to the logits adds up. seen: what the tensors hold of
    `batch`.
    """
    if not found:
        return []
    outputs = [node.output[0] for equalised in found for node in equalised.products]
    with probe.disturbed(model, outputs) as forward:
        wanted = forward(batch, {})

        def noise(equalised: _Equalised, factors: Array) -> float:
            array = seen[equalised.tensor]
            errors = {
                node.output[0]: _error(array @ weight, array, weight, factors, levels)
                for node, weight in zip(equalised.products, equalised.weights, strict=True)
            }
            return _power(forward(batch, errors) - wanted)

        saved = {one.tensor: noise(one, np.ones_like(one.factors)) - noise(one, one.factors) for one in found}
    best = sorted((one for one in found if saved[one.tensor] > 0), key=lambda one: saved[one.tensor], reverse=True)
    reached = np.cumsum([saved[one.tensor] for one in best])
    return best[: 1 + int(np.searchsorted(reached, ENOUGH * reached[-1]))] if best else []


def _multiply(model: Any, equalised: _Equalised) -> None:
    """Put the factors before the products, and their inverses into the weights."""
    import onnx

    name = equalised.products[0].name
    factors = onnx.numpy_helper.from_array(equalised.factors, f"{equalised.products[0].input[1]}_factors")
    in_size = f"{name}_in_size"
    model.add_initializer(factors)
    model.add_node(onnx.helper.make_node("Mul", [equalised.tensor, factors.name], [in_size], name=in_size))
    for product, weight in zip(equalised.products, equalised.weights, strict=True):
        scaled = onnx.numpy_helper.from_array(weight / equalised.factors[:, None], product.input[1])
        model.get_initializer(product.input[1]).CopyFrom(scaled)
        product.input[0] = in_size
