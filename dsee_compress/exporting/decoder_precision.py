"""Lower precisions of a decoder's fp32 graph: one function a precision, and the table of them.

Products have their weights in blocks, each with a scale and a zero point, and so their activations as they come: one
scale for all of a token's activations, as dynamic int8 of encoders has it, costs a language model twelve decibels more.
The vocabulary's matrix, which looks tokens up and scores them where the model ties the two, is stored once.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..progress import quiet
from . import files
from .precision import TALKATIVE, Lower, Rules, Samples, dynamic_int8, fp16

if TYPE_CHECKING:
    from onnx import NodeProto


def int8(source: Path, target: Path, rules: Rules, samples: Samples) -> dict[str, Any]:
    """Write `source` with int8 weights to `target`."""
    with quiet(*TALKATIVE):
        _in_blocks(source, target, bits=8, block_size=rules.block_size)
    return {"block_size": rules.block_size}


def int4(source: Path, target: Path, rules: Rules, samples: Samples) -> dict[str, Any]:
    """Write `source` with int4 weights to `target`, and the vocabulary, whose errors are the logits' own, in int8."""
    with quiet(*TALKATIVE):
        _in_blocks(source, target, bits=4, block_size=rules.block_size)
    return {"block_size": rules.block_size}


LOWER: Lower = {
    "fp16": fp16,
    "int8": int8,
    "int4": int4,
}
"""The precisions of decoders."""


def _in_blocks(source: Path, target: Path, *, bits: int, block_size: int) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = files.load(source)
    head = _head(model)
    _store_transposed(model, head)
    tied = _looked_up(model, head, block_size)
    for width, nodes in ((bits, {"nodes_to_exclude": [head.name]}), (8, {"nodes_to_include": [head.name]})):
        # Accuracy level 4 multiplies in int8, which is what a CPU is fast at.
        quantizer = MatMulNBitsQuantizer(model.model, bits=width, block_size=block_size, accuracy_level=4, **nodes)
        quantizer.process()
        model = OnnxModel(quantizer.model.model)
    if tied is not None:
        _look_up_in_blocks(model, tied, block_size)
    model.topological_sort()
    files.save(model, target)
    dynamic_int8(target, target, reduce_range=False, operators=["Gather"])


def _head(model: Any) -> "NodeProto":
    """The product that scores the vocabulary."""
    return model.output_name_to_node()["logits"]


def _store_transposed(model: Any, head: "NodeProto") -> None:
    """Give the head its weight as it multiplies by it, where the graph transposes the embedding's at each call."""
    import onnx

    transpose = model.output_name_to_node().get(head.input[1])
    if transpose is not None:
        weight = onnx.numpy_helper.to_array(model.get_initializer(transpose.input[0]))
        model.add_initializer(onnx.numpy_helper.from_array(np.ascontiguousarray(weight.T), f"{head.name}_weight"))
        head.input[1] = f"{head.name}_weight"
        model.remove_node(transpose)


def _looked_up(model: Any, head: "NodeProto", block_size: int) -> "NodeProto | None":
    """The Gather that looks tokens up in the head's weight, if the model ties the two and its rows are whole blocks."""
    import onnx

    weight = onnx.numpy_helper.to_array(model.get_initializer(head.input[1])).T
    if weight.shape[1] % block_size:
        return None
    for node in model.get_nodes_by_op_type("Gather"):
        table = model.get_initializer(node.input[0])
        if table is not None and np.array_equal(onnx.numpy_helper.to_array(table), weight):
            return node
    return None


def _look_up_in_blocks(model: Any, gather: "NodeProto", block_size: int) -> None:
    """Let `gather` look up in the head's int8 blocks, and forget the table that it had."""
    import onnx

    blocks, scales, zero_points = _head(model).input[1:4]
    rows = model.get_initializer(blocks).dims[0]
    flat = []
    for name in (blocks, scales, zero_points):
        shape = f"{gather.name}_shape"
        if model.get_initializer(shape) is None:
            model.add_initializer(onnx.numpy_helper.from_array(np.array([rows, -1]), shape))
        flat.append(f"{name}_by_token")
        model.add_node(onnx.helper.make_node("Reshape", [name, shape], [flat[-1]], name=flat[-1]))
    table = gather.input[0]
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
    model.remove_initializer(model.get_initializer(table))
