"""Rotary positions of a batch: ONNX Runtime wants angles for each sequence, where a model has one set for all."""

from typing import Any

import numpy as np


def repeat_angles(model: Any) -> None:
    """Give every RotaryEmbedding of a portable OnnxModel its angles once a sequence; the function stays the same."""
    for node in model.get_nodes_by_op_type("RotaryEmbedding"):
        if len(node.input) == 3:  # a fourth tells the positions of each sequence
            node.input[1:] = [_repeated(model, angles) for angles in node.input[1:]]
    model.topological_sort()


def _repeated(model: Any, angles: str) -> str:
    """(batch, positions, half a head) of `angles`, (1, positions, half a head)."""
    import onnx

    shape, ones, repeated = "angles_shape", "angles_ones", f"{angles}_repeated"
    node = onnx.helper.make_node
    if model.get_initializer(ones) is None:
        model.add_initializer(onnx.numpy_helper.from_array(np.ones(2, np.int64), ones))
        tokens = model.model.graph.input[0].name
        model.add_node(node("Shape", [tokens], [f"{shape}_batch"], name=f"{shape}_batch", start=0, end=1))
        model.add_node(node("Concat", [f"{shape}_batch", ones], [shape], name=shape, axis=0))
    if repeated not in model.output_name_to_node():
        model.add_node(node("Expand", [angles, shape], [repeated], name=repeated))
    return repeated
