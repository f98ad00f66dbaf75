"""Lower precisions of a decoder's fp32 graph: one function a precision, and the table of them.

The matrix of the vocabulary looks tokens up and scores them, where the model ties the two; it is then stored once.
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
    """Write `source` with int8 weights, per channel, and activations quantised as they come, to `target`.

    Weights in int8 blocks, as int4 has them, would add a third of the noise, and take 1.2 times as long for a step and
    2.5 times as long for a prompt (AVX2).
    """
    with quiet(*TALKATIVE):
        model, head, tied = _opened(source)
        kept, weight = [] if tied is None else [tied.name], head.input[1]
        files.save(model, target)
        dynamic_int8(target, target, reduce_range=rules.reduce_range, kept=kept)
        if tied is not None:
            model = files.load(target)
            gather = next(node for node in model.nodes() if node.name == kept[0])
            _look_up_in_rows(model, gather, weight)
            model.topological_sort()
            files.save(model, target)
    return {"reduce_range": rules.reduce_range}


def int4(source: Path, target: Path, rules: Rules, samples: Samples) -> dict[str, Any]:
    """Write `source` with int4 weights, a scale and a zero point a block, to `target`; the vocabulary in int8."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    from onnxruntime.transformers.onnx_model import OnnxModel

    with quiet(*TALKATIVE):
        model, head, tied = _opened(source)
        whole_blocks = model.get_initializer(head.input[1]).dims[0] % rules.block_size == 0
        for bits, nodes in ((4, {"nodes_to_exclude": [head.name]}), (8, {"nodes_to_include": [head.name]})):
            # Accuracy level 4 multiplies in int8, which is what a CPU is fast at.
            options = {"bits": bits, "block_size": rules.block_size, "accuracy_level": 4}
            quantizer = MatMulNBitsQuantizer(model.model, **options, **nodes)
            quantizer.process()
            model = OnnxModel(quantizer.model.model)
        if tied is not None and whole_blocks:
            _look_up_in_blocks(model, tied, rules.block_size)
        model.topological_sort()
        files.save(model, target)
        dynamic_int8(target, target, reduce_range=rules.reduce_range, operators=["Gather"])
    return {"block_size": rules.block_size}


LOWER: Lower = {
    "fp16": fp16,
    "int8": int8,
    "int4": int4,
}
"""The precisions of decoders."""


def _opened(source: Path) -> tuple[Any, "NodeProto", "NodeProto | None"]:
    """The graph in `source`, the product that scores the vocabulary, and the Gather that looks up in its weight."""

    model = files.load(source)
    head = _head(model)
    _store_transposed(model, head)
    return model, head, _looked_up(model, head)


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


def _looked_up(model: Any, head: "NodeProto") -> "NodeProto | None":
    """The Gather that looks tokens up in the head's weight, if the model ties the two."""
    import onnx

    weight = onnx.numpy_helper.to_array(model.get_initializer(head.input[1])).T
    for node in model.get_nodes_by_op_type("Gather"):
        table = model.get_initializer(node.input[0])
        if table is not None and np.array_equal(onnx.numpy_helper.to_array(table), weight):
            return node
    return None


def _look_up_in_rows(model: Any, gather: "NodeProto", weight: str) -> None:
    """Let `gather` look up in the int8 rows of the head's `weight`, and forget the table that it had."""
    import onnx

    name, tokens = gather.name, gather.input[1]
    columns = model.get_initializer(f"{weight}_quantized")
    rows = np.ascontiguousarray(onnx.numpy_helper.to_array(columns).T)
    model.remove_initializer(columns)
    model.remove_initializer(model.get_initializer(gather.input[0]))
    model.remove_node(gather)
    model.add_initializer(onnx.numpy_helper.from_array(rows, f"{weight}_rows"))
    model.add_initializer(onnx.numpy_helper.from_array(np.array([-1]), f"{name}_last_axis"))
    node = onnx.helper.make_node
    # A session folds the transposition when it loads the model.
    for new in (
        node("Transpose", [f"{weight}_rows"], [f"{weight}_quantized"], perm=[1, 0]),
        node("Gather", [f"{weight}_rows", tokens], [f"{name}_int8"]),
        node("Cast", [f"{name}_int8"], [f"{name}_float"], to=onnx.TensorProto.FLOAT),
        node("Gather", [f"{weight}_scale", tokens], [f"{name}_scale"]),
        node("Unsqueeze", [f"{name}_scale", f"{name}_last_axis"], [f"{name}_scales"]),
        node("Mul", [f"{name}_float", f"{name}_scales"], list(gather.output)),
    ):
        new.name = new.output[0]
        model.add_node(new)


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
