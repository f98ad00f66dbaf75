"""Which nodes of an fp32 graph compute numbers on examples that fp16 does not hold: those stay in fp32.

fp16 ends at 65,504. Beyond it are infinities, and a step later no numbers at all. Tensors are looked at between nodes,
and inside the operators that compute more in fp16 than they show (ONNX Runtime's CUDA kernels): biases that are added,
products of queries and keys before they are scaled, and the mean of squares of SkipLayerNormalization, which is in fp16
while LayerNormalization's is in fp32. Sums of products are in fp32 there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...evaluation.inputs import Batch
from .. import files, probe
from . import attention

if TYPE_CHECKING:
    from onnx import NodeProto

Array = NDArray[np.float32]
LARGEST = float(np.finfo(np.float16).max)
HEADROOM = 4.0
"""What examples reach has to fit so many times: other texts go higher, and a product may be summed in parts, each of
which goes higher than the whole."""
TOKENS = 8192
"""So many are looked at, and the rest of their batch."""
_MASK = 1e30
"""Numbers from here on stand for minus infinity: masked scores are filled with them, and fp16's end does as well."""
_LEAST_SIGNAL_TO_NOISE = 40.0
"""Decibels of a product over what fp16 does to its weight. Of weights in the range it is over 70; small ones end at
6e-8, and have fewer bits from 6e-5 on."""


@dataclass(frozen=True)
class Beyond:
    """What fp16 does not hold of a graph."""

    nodes: list[str]
    """Those that stay in fp32, in the graph's order."""
    inner: set[str]
    """Tensors that stay in fp32: no node reads or writes them but those."""
    floats: set[str]
    """All tensors that nodes write and that are of numbers in fp32."""


def beyond(model: Any, batches: list[Batch]) -> Beyond:
    """What fp16 does not hold of an OnnxModel in fp32 on examples. Every node has a name of its own."""
    graph = model.model.graph
    floats = probe.floats(model)
    largest, within = _largest(model, sorted(floats), probe.pieces(batches, TOKENS))
    limit = LARGEST / HEADROOM
    large = {name for name, value in largest.items() if value > limit}
    large |= {name for name, weight in _weights(graph) if _size(weight) > LARGEST}
    blunt = _rounded_away(model, probe.pieces(batches, 1)[0])
    kept = {name for name, value in within.items() if value > limit}
    for node in graph.node:
        if large.intersection((*node.input, *node.output)) or blunt.intersection(node.input):
            kept.add(node.name)
    readers: dict[str, set[str]] = {}
    writers = {name: node.name for node in graph.node for name in node.output}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.name)
    inner = {name for name in floats if writers[name] in kept and readers.get(name, {""}) <= kept}
    return Beyond([node.name for node in graph.node if node.name in kept], inner, floats)


def _largest(model: Any, names: list[str], pieces: list[Batch]) -> tuple[dict[str, float], dict[str, float]]:
    """The largest size on examples of tensors, by their names, and inside of nodes, by those of the nodes."""
    probed = files.copied(model)
    attention.separate_all(probed)
    sizes = _Sizes(probed)
    for name in names:
        sizes.of_tensor(name, name)
    # The nodes are gone through as they are, while others are added.
    scored = [score for node in list(probed.nodes()) for score in sizes.of_node(node)]
    found: dict[str, float] = {}
    outputs = [*sizes.outputs, *{name for score in scored for name in (score.query, score.key)}]
    for values in probe.tensors(probed, outputs, pieces):
        for output, owner in sizes.outputs.items():
            found[owner] = max(found.get(owner, 0.0), float(values[output]))
        for score in scored:
            found[score.owner] = max(found.get(score.owner, 0.0), score.largest(values))
    inside = {owner.removeprefix(_INSIDE): value for owner, value in found.items() if owner.startswith(_INSIDE)}
    return {name: found[name] for name in names}, inside


_INSIDE = "inside of "


@dataclass(frozen=True)
class _Score:
    """Products of an attention's queries and keys, (batch, tokens, heads · size) or (batch, heads, tokens, size)."""

    owner: str
    query: str
    key: str
    heads: tuple[int, int]
    """Of queries and of keys."""
    biases: tuple[Array | float, Array | float]

    def largest(self, values: dict[str, Array]) -> float:
        """The largest size of one."""
        query, key = (
            _apart(values[name] + bias, heads)
            for name, bias, heads in zip((self.query, self.key), self.biases, self.heads, strict=True)
        )
        key = np.repeat(key, query.shape[1] // key.shape[1], axis=1)
        rows = zip(query, key, strict=True)
        return max(_size(row @ other.transpose(0, 2, 1)) for row, other in rows)


def _apart(tensor: Array, heads: int) -> Array:
    """(batch, heads, tokens, size)."""
    if tensor.ndim == 4:
        return tensor
    return tensor.reshape(*tensor.shape[:2], heads, -1).transpose(0, 2, 1, 3)


class _Sizes:
    """Nodes that are added to an OnnxModel and give the largest size of what it computes."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.outputs: dict[str, str] = {}
        """The names of the outputs, and whose they are."""
        self._constant("zero", np.zeros(1, np.float32))
        self._constant("mask", np.array(_MASK, np.float32))
        self._constant("flat", np.array([-1]))

    def of_tensor(self, tensor: str, owner: str) -> None:
        """Add the largest size of a tensor to the outputs; 0 of one without elements."""
        size = self._add("Abs", tensor)
        kept = self._add("Where", self._add("Less", size, "range_mask"), size, "range_zero")
        flat = self._add("Concat", self._add("Reshape", kept, "range_flat"), "range_zero", axis=0)
        self.outputs[self._add("ReduceMax", flat, keepdims=0)] = owner

    def of_node(self, node: "NodeProto") -> Iterator[_Score]:
        """Add what a node computes inside; the products of queries and keys are given back, for their tensors alone."""
        options = attention.attributes_of(node)
        owner = f"{_INSIDE}{node.name.removesuffix(attention.APART)}"
        match node.op_type:
            case "BiasGelu" | "FastGelu" if len(node.input) > 1:
                self.of_tensor(self._add("Add", *node.input[:2]), owner)
            case "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization":
                terms = [name for index, name in enumerate(node.input) if name and index in (0, 1, 4)]
                if node.op_type == "SkipSimplifiedLayerNormalization":
                    terms = [name for index, name in enumerate(node.input) if name and index in (0, 1, 3)]
                total = terms[0]
                for term in terms[1:]:
                    total = self._add("Add", total, term)
                self.of_tensor(total, owner)
                self.of_tensor(self._mean_square(total, node.input[2]), owner)
            case "EmbedLayerNormalization":
                tables = [self._model.get_constant_value(name) for name in node.input[2:5] if name]
                bound = sum(np.abs(table).max(axis=0) for table in tables if table is not None)
                name = self._constant(f"{node.name}_bound", np.square(bound).mean(dtype=np.float32).reshape(1))
                self.of_tensor(name, owner)
            case "MultiHeadAttention":
                heads = options["num_heads"]
                bias: tuple[Array | float, Array | float] = (0.0, 0.0)
                if len(node.input) > 3 and node.input[3]:
                    parts = np.split(self._model.get_constant_value(node.input[3]), 3)
                    bias = (parts[0], parts[1])
                    for tensor, part, name in zip(node.input[:3], parts, "qkv", strict=True):
                        added = self._constant(f"{node.name}_{name}_bias", np.ascontiguousarray(part))
                        self.of_tensor(tensor, owner)
                        self.of_tensor(self._add("Add", tensor, added), owner)
                yield _Score(owner, node.input[0], node.input[1], (heads, heads), bias)
            case "GroupQueryAttention":
                heads = (options["num_heads"], options["kv_num_heads"])
                yield _Score(owner, node.input[0], node.input[1], heads, (0.0, 0.0))
            case "Attention" if not node.domain:
                heads = (options.get("q_num_heads", 1), options.get("kv_num_heads", 1))
                yield _Score(owner, node.input[0], node.input[1], heads, (0.0, 0.0))

    def _mean_square(self, tensor: str, gamma: str) -> str:
        (channels,) = self._model.get_initializer(gamma).dims
        mean = self._constant(f"mean_{channels}", np.full((channels, 1), 1 / channels, np.float32))
        return self._add("MatMul", self._add("Mul", tensor, tensor), mean)

    def _constant(self, name: str, array: NDArray[Any]) -> str:
        import onnx

        name = f"range_{name}"
        if self._model.get_initializer(name) is None:
            self._model.add_initializer(onnx.numpy_helper.from_array(array, name))
        return name

    def _add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        import onnx

        output = f"range_{len(self._model.model.graph.node)}"
        self._model.add_node(onnx.helper.make_node(operator, [*inputs], [output], name=output, **attributes))
        return output


def _weights(graph: Any) -> Iterator[tuple[str, Array]]:
    """The names and values of the constants in fp32."""
    import onnx

    for entry in graph.initializer:
        if entry.data_type == onnx.TensorProto.FLOAT:
            yield entry.name, onnx.numpy_helper.to_array(entry)


def _size(array: Array) -> float:
    """The largest size of numbers that are no mask; 0 of none."""
    sizes = np.abs(array)
    return float(sizes.max(initial=0.0, where=sizes < _MASK))


def _rounded_away(model: Any, piece: Batch) -> set[str]:
    """Matrices of which fp16's small numbers leave too little, in products by what their inputs hold on an example."""
    graph = model.model.graph
    matrices = {name: weight for name, weight in _weights(graph) if weight.ndim > 1}
    suspects = {name: weight for name, weight in matrices.items() if (np.abs(weight[weight != 0]) < 6.2e-5).any()}
    reading = {
        node.input[1]: node.input[0]
        for node in graph.node
        if len(node.input) > 1 and node.input[1] in suspects and suspects[node.input[1]].ndim == 2
    }
    (seen,) = probe.tensors(model, sorted({*reading.values()}), [piece]) if reading else ({},)
    found = set()
    for name, weight in suspects.items():
        size = np.ones(len(weight), np.float32)
        if name in reading and seen[reading[name]].shape[-1] == len(weight):
            inputs = seen[reading[name]].reshape(-1, len(weight))
            size = np.sqrt(np.square(inputs).mean(axis=0))
        by_row = weight * size.reshape(-1, *[1] * (weight.ndim - 1))
        noise = (weight - probe.half(weight)) * size.reshape(-1, *[1] * (weight.ndim - 1))
        signal, lost = (float(np.square(array, dtype=np.float64).sum()) for array in (by_row, noise))
        if lost * 10 ** (_LEAST_SIGNAL_TO_NOISE / 10) > signal:
            found.add(name)
    return found
