"""Compute only what the task head reads: of the last layer, the first token's row.

A classifier that looks at the first token takes one row of the last layer's output. All that follows the attention acts
on each token alone, so the row can be taken before it; and the attention becomes that of one query (`one_query`). The
function stays the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import one_query as ask
from .attention import attributes_of

if TYPE_CHECKING:
    from onnx import NodeProto

_ROW_WISE = {
    "MatMul": 1,
    "SkipLayerNormalization": 2,
    "LayerNormalization": 1,
    "BiasGelu": 1,
    "Gelu": 1,
    "FastGelu": 1,
}
"""Operators whose row t depends on row t alone of as many inputs, the first; the other inputs are weights."""
_BY_ELEMENT = ("Add", "Sum", "Mul")
"""Operators whose row t depends on row t alone of every input, but for those that all rows share."""


@dataclass(frozen=True)
class Narrowed:
    """How many nodes compute one row where they computed all."""

    nodes: int
    attention: int
    """Those among them that are a layer's attention."""


def narrow(model: Any, *, one_query: bool = True) -> Narrowed:
    """Let the last layer of a fused or portable OnnxModel compute the first token's row alone.

    Nothing is narrower than before where no head takes the first row of a layer's output. one_query: whether that may
    go through its attention (see `Architecture.one_query`).
    """
    row_wise, fused, standard = _read_by_row(model, one_query)
    nodes = [*row_wise, *fused, *(heads.merge for heads in standard)]
    narrowed = {name for node in nodes for name in node.output if name}
    for node in row_wise:
        for index in _rows_of(model, node):
            if node.input[index] not in narrowed:
                node.input[index] = _first(model, node.input[index])
    for node in fused:
        ask.ask_fused(model, node, _first(model, node.input[0]))
    for heads in standard:
        ask.ask_standard(model, heads)
    if narrowed:
        model.prune_graph(allow_remove_graph_inputs=False)
        _forget_shapes(model, narrowed)
        model.topological_sort()
    return Narrowed(len(nodes), len(fused) + len(standard))


def _read_by_row(model: Any, one_query: bool) -> tuple[list["NodeProto"], list["NodeProto"], list[ask.StandardHeads]]:
    """The nodes of whose output the heads need the first row alone.

    Those that act row by row, ONNX Runtime's Attention, and ONNX's own.
    """
    readers, producers = model.input_name_to_nodes(), model.output_name_to_node()
    of_one_row = {node.output[0] for node in model.nodes() if _takes_first_row(model, node, producers)}
    row_wise, fused, standard = [], [], []
    for node in reversed(model.nodes()):
        read_by = [reader.output[0] for output in node.output if output for reader in readers.get(output, [])]
        if not read_by or not of_one_row.issuperset(read_by):
            continue
        if node.op_type == "Attention" and node.domain:
            if one_query:
                fused.append(node)
        elif node.op_type == "Reshape":
            if one_query and (heads := ask.standard_heads(model, node, readers, producers)):
                standard.append(heads)
                of_one_row.add(heads.split.output[0])
        elif _rows_of(model, node):
            row_wise.append(node)
            of_one_row.add(node.output[0])
    return row_wise, fused, standard


def _takes_first_row(model: Any, node: "NodeProto", producers: dict[str, "NodeProto"]) -> bool:
    if node.op_type != "Gather" or node.input[0] not in producers:
        return False
    index = model.get_constant_value(node.input[1])
    return attributes_of(node).get("axis", 0) == 1 and index is not None and index.shape == () and index == 0


def _rows_of(model: Any, node: "NodeProto") -> list[int]:
    """The inputs of which a node needs row t for its row t; none, if it does not act row by row."""
    weights = {name: model.get_constant_value(name) for name in node.input if name}
    if node.op_type in _BY_ELEMENT:
        shared = all(weight is None or weight.ndim <= 1 for weight in weights.values())
        return [index for index, name in enumerate(node.input) if weights[name] is None] if shared else []
    count = _ROW_WISE.get(node.op_type, 0)
    return [*range(count)] if all(weights[name] is not None for name in node.input[count:] if name) else []


def _first(model: Any, name: str) -> str:
    """The tensor of the first row of `name`, which stays: (batch, 1, width) of (batch, tokens, width)."""
    import onnx

    row, zero = f"{name}_first_row", "first_row_index"
    if row not in model.output_name_to_node():
        if model.get_initializer(zero) is None:
            model.add_initializer(onnx.numpy_helper.from_array(np.array([0], np.int64), zero))
        model.add_node(onnx.helper.make_node("Gather", [name, zero], [row], name=row, axis=1))
    return row


def _forget_shapes(model: Any, names: Iterable[str]) -> None:
    """Drop what the graph says of the shapes of these tensors, and of those that are gone."""
    known = model.output_name_to_node().keys() - {*names}
    kept = [entry for entry in model.model.graph.value_info if entry.name in known]
    del model.model.graph.value_info[:]
    model.model.graph.value_info.extend(kept)
