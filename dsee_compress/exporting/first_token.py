"""Compute only what the task head reads: of the last layer, the first token's row.

A classifier that looks at the first token takes one row of the last layer's output. All that follows the attention acts
on each token alone, so the row can be taken before it; and of the attention, one query is enough. Keys and values still
come from all tokens. The function stays the same.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .attention import separate

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


def narrow(path: Path) -> int:
    """Rewrite the fused graph in `path` so that its last layer computes the first token's row alone.

    Returns how many nodes are narrower than before: none where no head takes the first row of a layer's output.
    """
    import onnx
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = OnnxModel(onnx.load(str(path)))
    row_wise, attention = _read_by_row(model)
    narrowed = {node.output[0] for node in (*row_wise, *attention)}
    for node in row_wise:
        for index, name in enumerate(node.input[: _ROW_WISE[node.op_type]]):
            if name not in narrowed:
                node.input[index] = _first_row(model, name)
    for node in attention:
        separate(model, node, query_source=_first_row(model, node.input[0]))
    if narrowed:
        model.topological_sort()
        model.save_model_to_file(str(path))
    return len(narrowed)


def _read_by_row(model: Any) -> tuple[list["NodeProto"], list["NodeProto"]]:
    """The nodes of whose output the heads need the first row alone: those that act row by row, and attention."""
    readers, producers = model.input_name_to_nodes(), model.output_name_to_node()
    of_one_row = {node.output[0] for node in model.nodes() if _takes_first_row(model, node, producers)}
    row_wise, attention = [], []
    for node in reversed(model.nodes()):
        read_by = [reader.output[0] for output in node.output for reader in readers.get(output, [])]
        if not read_by or not of_one_row.issuperset(read_by):
            continue
        if node.op_type == "Attention":
            attention.append(node)
        elif node.op_type in _ROW_WISE and _others_are_weights(model, node):
            row_wise.append(node)
            of_one_row.add(node.output[0])
    return row_wise, attention


def _takes_first_row(model: Any, node: "NodeProto", producers: dict[str, "NodeProto"]) -> bool:
    if node.op_type != "Gather" or node.input[0] not in producers:
        return False
    index = model.get_constant_value(node.input[1])
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
    return axis == 1 and index is not None and index.shape == () and index == 0


def _others_are_weights(model: Any, node: "NodeProto") -> bool:
    return all(model.get_initializer(name) is not None for name in node.input[_ROW_WISE[node.op_type] :] if name)


def _first_row(model: Any, name: str) -> str:
    """The tensor of the first row of `name`: (batch, 1, width) of (batch, tokens, width)."""
    import onnx

    row, zero = f"{name}_first_row", "first_row_index"
    if row not in model.output_name_to_node():
        if model.get_initializer(zero) is None:
            model.add_initializer(onnx.numpy_helper.from_array(np.array([0], np.int64), zero))
        model.add_node(onnx.helper.make_node("Gather", [name, zero], [row], name=row, axis=1))
    return row
