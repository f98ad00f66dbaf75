"""The matrix of the vocabulary in a decoder's graph: stored once, where it looks tokens up and scores them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnx import NodeProto


@dataclass(frozen=True)
class Tied:
    """Names of a Gather that looks tokens up, of its table, and of the weight that scores them: the same numbers."""

    look_up: str
    table: str
    weight: str


def head(model: Any) -> "NodeProto":
    """The node of an OnnxModel that gives the logits: of a decoder, the product that scores the vocabulary."""
    return model.output_name_to_node()["logits"]


def store_transposed(model: Any) -> None:
    """Give the head its weight as it multiplies by it, where the graph transposes the embedding's at each call."""
    import onnx

    product = head(model)
    transpose = model.output_name_to_node().get(product.input[1])
    if transpose is not None:
        weight = onnx.numpy_helper.to_array(model.get_initializer(transpose.input[0]))
        name = f"{product.name}_weight"
        model.add_initializer(onnx.numpy_helper.from_array(np.ascontiguousarray(weight.T), name))
        product.input[1] = name
        model.remove_node(transpose)


def find(model: Any) -> Tied | None:
    """The look-up that the model ties to its head, while both are in fp32."""
    product = head(model)
    weight = model.get_initializer(product.input[1]) if product.op_type == "MatMul" else None
    if weight is None:
        return None
    table = model.get_constant_value(weight.name).T
    for node in model.get_nodes_by_op_type("Gather"):
        if (other := model.get_constant_value(node.input[0])) is not None and np.array_equal(other, table):
            return Tied(node.name, node.input[0], weight.name)
    return None


def look_up_in_rows(model: Any, tied: Tied) -> None:
    """Let the look-up take int8 rows of the head's weight, and forget the table that it had."""
    import onnx

    gather, name = _node(model, tied.look_up), tied.look_up
    tokens = gather.input[1]
    columns = model.get_initializer(f"{tied.weight}_quantized")
    rows = np.ascontiguousarray(onnx.numpy_helper.to_array(columns).T)
    model.remove_initializer(columns)
    model.remove_initializer(model.get_initializer(tied.table))
    model.remove_node(gather)
    model.add_initializer(onnx.numpy_helper.from_array(rows, f"{tied.table}_rows"))
    model.add_initializer(onnx.numpy_helper.from_array(np.array([-1]), f"{name}_last_axis"))
    node = onnx.helper.make_node
    # A session folds the transposition when it loads the model.
    for new in (
        node("Transpose", [f"{tied.table}_rows"], [f"{tied.weight}_quantized"], perm=[1, 0]),
        node("Gather", [f"{tied.table}_rows", tokens], [f"{name}_int8"]),
        node("Cast", [f"{name}_int8"], [f"{name}_float"], to=onnx.TensorProto.FLOAT),
        node("Gather", [f"{tied.weight}_scale", tokens], [f"{name}_scale"]),
        node("Unsqueeze", [f"{name}_scale", f"{name}_last_axis"], [f"{name}_scales"]),
        node("Mul", [f"{name}_float", f"{name}_scales"], list(gather.output)),
    ):
        new.name = new.output[0]
        model.add_node(new)


def look_up_in_blocks(model: Any, tied: Tied, block_size: int) -> None:
    """Let the look-up take rows of the head's int8 blocks, and forget the table that it had."""
    import onnx

    gather, product, shape = _node(model, tied.look_up), head(model), f"{tied.look_up}_shape"
    rows = model.get_initializer(product.input[1]).dims[0]
    model.add_initializer(onnx.numpy_helper.from_array(np.array([rows, -1]), shape))
    flat = []
    # Blocks, scales and zero points.
    for index in (1, 2, 3):
        tensor = model.get_initializer(product.input[index])
        tensor.name = product.input[index] = tied.table + tensor.name.removeprefix(tied.weight)
        flat.append(f"{tensor.name}_by_token")
        model.add_node(onnx.helper.make_node("Reshape", [tensor.name, shape], [flat[-1]], name=flat[-1]))
    look_up = onnx.helper.make_node(
        "GatherBlockQuantized",
        [flat[0], gather.input[1], *flat[1:]],
        list(gather.output),
        name=f"{gather.name}_in_blocks",
        domain="com.microsoft",
        bits=8,
        block_size=block_size,
        gather_axis=0,
        quantize_axis=1,
    )
    model.remove_node(gather)
    model.add_node(look_up)
    model.remove_initializer(model.get_initializer(tied.table))


def _node(model: Any, name: str) -> "NodeProto":
    return next(node for node in model.nodes() if node.name == name)
