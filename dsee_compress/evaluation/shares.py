"""What the parts of a model weigh in an ONNX file."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from math import ceil, prod
from pathlib import Path
from typing import Any

from ..architectures.structure import Architecture
from .decoder_shares import Parts

PARTS = ("embeddings", "attention", "ffn", "task_head")
_FFN = ("ffn_in", "ffn_out")
_CARRIES_WEIGHTS_ON = {"Cast", "DequantizeLinear", "Transpose"}
_PRODUCTS = {"MatMul", "MatMulInteger", "MatMulNBits", "Mul"}
"""Those of weights, and of the scales that make numbers of them."""
_LEFT = {"MatMul": (0,), "MatMulInteger": (0, 2), "MatMulNBits": (0,)}
"""Which inputs of a product are what the weights are applied to, and its zero point."""


def megabytes(path: Path, family: Architecture) -> dict[str, float]:
    """MB (10⁶ bytes) of the weights of each of PARTS, with their scales, whatever their precision.

    A weight belongs where its own name or that of a node that reads it says, or the name of the bias that is added to
    its product: exporters keep the module's path in one of them, and the fusion names a layer's query, key and value
    `Attention_…`. What products apply weights to is of the embeddings: DeBERTa's table of relative positions, whose own
    name an exporter may lose. Those of decoders: as Parts says.
    """
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    part_of = Parts(graph, family).of if family.decoder else _by_names(graph, family)
    total = dict.fromkeys(PARTS, 0.0)
    for tensor in graph.initializer:
        if part := part_of(tensor.name):
            total[part] += _bytes(tensor) / 1e6
    return total


def vocabulary_megabytes(path: Path, tokens: int) -> float:
    """MB (10⁶ bytes) of the weights that have a row or column for each of so many tokens."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    in_blocks = {
        name
        for node in graph.node
        if any(attribute.name == "N" and attribute.i == tokens for attribute in node.attribute)
        for name in node.input
    }
    tensors = (entry for entry in graph.initializer if entry.name in in_blocks or len(entry.dims) == 2)
    return sum(_bytes(entry) for entry in tensors if entry.name in in_blocks or tokens in entry.dims) / 1e6


def _by_names(graph: Any, family: Architecture) -> Callable[[str], str | None]:
    """The part of the model that a weight of an encoder's graph belongs to, if any; shapes belong to none."""
    import onnx

    stored = {entry.name for entry in graph.initializer}
    shapes = {entry.name for entry in graph.initializer if entry.data_type == onnx.TensorProto.INT64}
    readers = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)

    def part_of(tensor: str) -> str | None:
        scaled = f"{tensor.removesuffix('_scale')}_quantized"
        if scaled in stored:
            return part_of(scaled)
        if tensor in shapes:
            return None
        if _is_multiplied(tensor, readers):
            return "embeddings"
        return next(filter(None, (_part(name, family) for name in _names(tensor, readers))), None)

    return part_of


def _is_multiplied(tensor: str, readers: dict[str, list[Any]]) -> bool:
    """Whether products apply weights to the tensor, or to what only carries it on."""
    return any(
        any(node.input[index] == tensor for index in _LEFT.get(node.op_type, ()) if index < len(node.input))
        or (node.op_type in _CARRIES_WEIGHTS_ON and _is_multiplied(node.output[0], readers))
        for node in readers[tensor]
    )


def _names(tensor: str, readers: dict[str, list[Any]]) -> Iterator[str]:
    """The tensor's name, those of the nodes that read it, and of those that read what only carries it on; of a product
    the names of what is added to it."""
    yield tensor
    for node in readers[tensor]:
        yield node.name
        if node.op_type in _CARRIES_WEIGHTS_ON:
            yield from _names(node.output[0], readers)
        elif node.op_type in _PRODUCTS:
            yield from _added(node.output[0], readers)


def _added(product: str, readers: dict[str, list[Any]]) -> Iterator[str]:
    """What is added to a product, once its scale makes a number of it."""
    for node in readers[product]:
        if node.op_type == "Add":
            yield from node.input
        elif node.op_type in ("Cast", "Mul"):
            yield from _added(node.output[0], readers)


def _part(name: str, family: Architecture) -> str | None:
    path = name.strip("/").replace("/", ".")
    if path.startswith(tuple(f"{module}." for modules in family.heads.values() for module in modules)):
        return "task_head"
    if path.startswith("Attention_"):
        return "attention"
    layer = re.match(rf"{re.escape(family.layers)}\.\d+\.", path)
    if layer is None:
        return "embeddings" if "embeddings" in path else None
    inside = path[layer.end() :]
    place = next((place for place, linear in family.linears.items() if inside.startswith(f"{linear}.")), None)
    return place and ("ffn" if place in _FFN else "attention")


def _bytes(tensor: Any) -> int:
    import onnx

    four_bits = {onnx.TensorProto.INT4, onnx.TensorProto.UINT4}
    size = 0.5 if tensor.data_type in four_bits else onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return ceil(prod(tensor.dims) * size)
