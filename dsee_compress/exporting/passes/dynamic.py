"""int8 weights, with activations quantised as they come."""

from collections.abc import Sequence
from typing import Any

from ...progress import quiet
from .. import files
from . import one_query, tied_vocabulary

TALKATIVE = ("root", "onnxruntime.quantization.matmul_nbits_quantizer", "onnxruntime.transformers.onnx_model")
"""Loggers of the quantisers' advice, which is about unfused graphs, and of their progress, node by node."""
LOOK_UPS = ("EmbedLayerNormalization", "Gather")
PRODUCTS = ("Attention", "MatMul")
"""With LOOK_UPS what dynamic int8 quantises: not Conv, whose int8 weights ONNX Runtime 1.22 has no kernel for."""


def quantise(model: Any, *, reduce_range: bool, operators: Sequence[str] = (*PRODUCTS, *LOOK_UPS)) -> None:
    """Turn the weights of `operators` in an OnnxModel into int8, per channel; those of `one_query` stay.

    A table that a decoder looks tokens up in and scores them by is stored once. The quantiser has no way but through a
    file of its own, in a folder that it removes: once, to infer shapes.
    """
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
    from onnxruntime.quantization.quant_utils import QuantizationMode, add_infer_metadata

    # The quantiser knows operators by name alone, and takes ONNX's Attention for ONNX Runtime's, which holds weights.
    standard = [node.name for node in model.nodes() if node.op_type == "Attention" and not node.domain]
    tied = tied_vocabulary.find(model)
    kept = [] if tied is None else [tied.look_up]
    # It infers shapes at first, too, of what is not said to have them.
    add_infer_metadata(model.model)
    with quiet(*TALKATIVE):
        quantizer = ONNXQuantizer(
            model.model,
            per_channel=True,
            reduce_range=reduce_range,
            mode=QuantizationMode.IntegerOps,
            static=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=None,
            nodes_to_quantize=[],
            nodes_to_exclude=[*standard, *one_query.by_head(model.model.graph), *kept],
            op_types_to_quantize=[*operators],
            # Contrib operators have no shape inference, so the type of their outputs has to be told.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT, "MatMulConstBOnly": True},
        )
        quantizer.quantize_model()
    # protobuf keeps what was taken out of a message, here all weights in fp32, as long as the message itself.
    model.initialize(files.copied(quantizer.model).model)
    if tied is not None:
        tied_vocabulary.look_up_in_rows(model, tied)
    model.topological_sort()
