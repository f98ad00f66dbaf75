"""Static int8: ranges of activations fixed on examples, and the products that hurt left in fp32, found by measuring."""

from typing import Any

import numpy as np

from ...errors import GateError
from ...evaluation.inputs import Batch
from .. import files, probe
from . import one_query, rounding

LEAST_SIGNAL_TO_NOISE = 24.0
"""Decibels of the logits over what quantisation adds to them, on examples that set no range."""


def calibrate(model: Any, batches: list[Batch], *, reduce_range: bool, signed: bool) -> dict[str, Any]:
    """Quantise every product of weights of an OnnxModel in fp32 (int8, QDQ, per channel), but for those that hurt.

    batches: every second sets the ranges, the others judge; all do both, where those would be less than two rows.
    While the logits' signal-to-noise ratio is under LEAST_SIGNAL_TO_NOISE, the product whose return to fp32 helps most
    alone returns, then the next. GateError if it takes all of them.
    Returns the nodes in fp32 and the ratio in decibels.
    """
    ranging, judging = batches[::2], batches[1::2]
    if sum(len(batch["input_ids"]) for batch in judging) < 2:
        ranging = judging = batches
    whole = _quantised(model, ranging, reduce_range=reduce_range, signed=signed)
    rounding.fit(whole, model, ranging)
    wanted = probe.logits(model, judging)

    def signal_to_noise(kept: list[str]) -> float:
        return probe.decibels(wanted, probe.logits(_with_fp32(whole, model, kept), judging))

    kept: list[str] = []
    reached = signal_to_noise(kept)
    if reached < LEAST_SIGNAL_TO_NOISE:
        products = [node.name for node in probe.products(model.model.graph)]
        order = sorted(products, key=lambda name: signal_to_noise([name]), reverse=True)
        while reached < LEAST_SIGNAL_TO_NOISE and len(kept) < len(order):
            kept = order[: len(kept) + 1]
            reached = signal_to_noise(kept)
        if len(kept) == len(order):
            raise GateError(
                f"gate 'static' failed: the logits' signal-to-noise ratio is {reached:.1f} dB with every product back "
                f"in fp32 (least {LEAST_SIGNAL_TO_NOISE:g}, with some in int8); leave int8_static out, or take int8"
            )
    model.initialize(_with_fp32(whole, model, kept).model)
    return {"fp32_nodes": kept, "signal_to_noise_db": reached}


def _quantised(model: Any, batches: list[Batch], *, reduce_range: bool, signed: bool) -> Any:
    """A copy of an OnnxModel with all its products in int8, in the ranges of `batches`."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import add_infer_metadata

    entering, copy = _entering(model), files.copied(model)
    del copy.model.graph.value_info[:]
    copy.model.graph.value_info.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in entering
    )
    add_infer_metadata(copy.model)
    quantizer = QDQQuantizer(
        copy.model,
        per_channel=True,
        reduce_range=reduce_range,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8 if signed else QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, _ranges(model, entering, batches)),
        nodes_to_quantize=[],
        nodes_to_exclude=one_query.by_head(model.model.graph),
        op_types_to_quantize=["MatMul"],
        extra_options={
            "MatMulConstBOnly": True,
            # What follows a product adds its bias and normalises: in fp32, which keeps its range.
            "OpTypesToExcludeOutputQuantization": ["MatMul"],
        },
    )
    quantizer.quantize_model()
    copy.initialize(quantizer.model.model)
    return copy


def _entering(model: Any) -> list[str]:
    """What the products of an OnnxModel read: of weights, and those others whose type ONNX infers.

    The quantiser is told these types, and leaves a product without one as it is: contrib operators have no inference.
    """
    import onnx

    of_weights = {node.input[0] for node in probe.products(model.model.graph)}
    shell, _ = files.without_weights(model)
    shell.model.graph.value_info.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in sorted(of_weights)
    )
    inferred = onnx.shape_inference.infer_shapes(shell.model).graph.value_info
    floats = {entry.name for entry in inferred if entry.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    read = {name for node in model.get_nodes_by_op_type("MatMul") for name in node.input}
    return sorted(of_weights | floats & read)


def _ranges(model: Any, names: list[str], batches: list[Batch]) -> dict[str, tuple[Any, Any]]:
    """The least and the largest number of tensors on examples."""
    found: dict[str, tuple[Any, Any]] = {}
    for values in probe.tensors(model, names, batches):
        for name, array in values.items():
            low, high = found.get(name, (np.float32(np.inf), np.float32(-np.inf)))
            found[name] = min(low, array.min()), max(high, array.max())
    return found


def _with_fp32(quantised: Any, full: Any, names: list[str]) -> Any:
    """`quantised` with the products of these names as they are in `full`: OnnxModels."""
    model = files.copied(quantised)
    as_they_were = {node.name: list(node.input) for node in full.nodes() if node.name in names}
    for node in model.nodes():
        if node.name in as_they_were:
            node.input[:] = as_they_were[node.name]
            model.add_initializer(full.get_initializer(node.input[1]))
    model.prune_graph()
    return model
