"""A fused Attention node taken apart: three products with weights of their own, and what is done with them."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnx import NodeProto


APART = "_apart"
"""What the name of a node ends with that stands in the place of an Attention node of that name."""


def separate_all(model: Any) -> None:
    """Put MultiHeadAttention, behind three MatMuls, in the place of every Attention node of an OnnxModel.

    Attention holds its projections' weights, which no quantiser but the dynamic one knows. The function stays the same.
    """
    for node in model.get_nodes_by_op_type("Attention"):
        if node.domain == "com.microsoft":
            _separate(model, node)
    model.topological_sort()


def _separate(model: Any, node: "NodeProto") -> None:
    import onnx

    x, weight, bias, mask = node.input[:4]
    attributes = attributes_of(node)
    projected = []
    parts = np.split(onnx.numpy_helper.to_array(model.get_initializer(weight)), 3, axis=1)
    for role, part in zip(("query", "key", "value"), parts, strict=True):
        name = f"{node.name}_{role}"
        model.add_initializer(onnx.numpy_helper.from_array(np.ascontiguousarray(part), f"{name}_weight"))
        model.add_node(onnx.helper.make_node("MatMul", [x, f"{name}_weight"], [name], name=name))
        projected.append(name)
    apart = onnx.helper.make_node(
        "MultiHeadAttention",
        [*projected, bias, mask],
        list(node.output),
        name=f"{node.name}{APART}",
        domain="com.microsoft",
        num_heads=attributes["num_heads"],
        mask_filter_value=attributes["mask_filter_value"],
    )
    model.add_node(apart)
    model.remove_node(node)
    model.remove_initializer(model.get_initializer(weight))


def attributes_of(node: "NodeProto") -> dict[str, Any]:
    """The values of a node's attributes, by name."""
    import onnx

    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
