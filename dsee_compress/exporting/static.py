"""Static int8: ranges of activations fixed on examples, and the products that hurt left in fp32, found by measuring."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import GateError
from ..evaluation import session
from ..evaluation.inputs import Batch
from . import files, one_query, probe, rounding

LEAST_SIGNAL_TO_NOISE = 24.0
"""Decibels of the logits over what quantisation adds to them, on examples that set no range."""


def calibrated(source: Path, target: Path, batches: list[Batch], *, reduce_range: bool, signed: bool) -> dict[str, Any]:
    """Write `source` with every product of weights in int8 (QDQ, per channel) to `target`, but for those that hurt.

    batches: every second sets the ranges, the others judge; all do both, where those would be less than two rows.
    While the logits' signal-to-noise ratio is under LEAST_SIGNAL_TO_NOISE, the product whose return to fp32 helps most
    alone returns, then the next. GateError if it takes all of them.
    Returns the nodes in fp32 and the ratio in decibels.
    """
    import onnx

    ranging, judging = batches[::2], batches[1::2]
    if sum(len(batch["input_ids"]) for batch in judging) < 2:
        ranging = judging = batches
    full = onnx.load(str(source))
    typed, quantised = target.with_suffix(".typed.onnx"), target.with_suffix(".all.onnx")
    files.save(_with_types(full), typed)
    _quantise(typed, quantised, ranging, one_query.by_head(full.graph), reduce_range=reduce_range, signed=signed)
    files.remove(typed)
    rounding.fit(source, quantised, ranging)
    whole = onnx.load(str(quantised))
    files.remove(quantised)
    wanted = probe.logits(source, judging)

    def signal_to_noise(kept: list[str]) -> float:
        files.save(_with_fp32(whole, full, kept), target)
        return probe.decibels(wanted, probe.logits(target, judging))

    kept: list[str] = []
    reached = signal_to_noise(kept)
    if reached < LEAST_SIGNAL_TO_NOISE:
        products = [node.name for node in probe.products(full.graph)]
        order = sorted(products, key=lambda name: signal_to_noise([name]), reverse=True)
        while reached < LEAST_SIGNAL_TO_NOISE and len(kept) < len(order):
            kept = order[: len(kept) + 1]
            reached = signal_to_noise(kept)
        if len(kept) == len(order):
            raise GateError(
                f"gate 'static' failed: the logits' signal-to-noise ratio is {reached:.1f} dB with every product back "
                f"in fp32 (least {LEAST_SIGNAL_TO_NOISE:g}, with some in int8); leave int8_static out, or take int8"
            )
    return {"fp32_nodes": kept, "signal_to_noise_db": reached}


def _quantise(
    source: Path, target: Path, batches: list[Batch], excluded: list[str], *, reduce_range: bool, signed: bool
) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self, rows: Iterable[Batch]) -> None:
            self._rows: Iterator[Batch] = iter(rows)

        def get_next(self) -> Batch | None:
            return next(self._rows, None)

    with session.Session(source) as live:
        feeds = [{name: batch[name] for name in live.inputs} for batch in batches]
    quantize_static(
        source,
        target,
        Reader(feeds),
        use_external_data_format=files.is_large(source),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul"],
        nodes_to_exclude=excluded,
        per_channel=True,
        reduce_range=reduce_range,
        activation_type=QuantType.QInt8 if signed else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={
            "DefaultTensorType": onnx.TensorProto.FLOAT,
            "MatMulConstBOnly": True,
            # What follows a product adds its bias and normalises: in fp32, which keeps its range.
            "OpTypesToExcludeOutputQuantization": ["MatMul"],
        },
    )


def _with_types(full: Any) -> Any:
    """`full` with a type for what enters its products: contrib operators have no inference of it.

    A tensor without one is left as it is by the quantiser, and the product with it.
    """
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(full)
    entering = {node.input[0] for node in probe.products(full.graph)}
    model.graph.value_info.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in sorted(entering)
    )
    return model


def _with_fp32(quantised: Any, full: Any, names: list[str]) -> Any:
    """`quantised` with the products of these names as they are in `full`."""
    import onnx
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = onnx.ModelProto()
    model.CopyFrom(quantised)
    weights = {entry.name: entry for entry in full.graph.initializer}
    as_they_were = {node.name: list(node.input) for node in full.graph.node if node.name in names}
    for node in model.graph.node:
        if node.name in as_they_were:
            node.input[:] = as_they_were[node.name]
            model.graph.initializer.append(weights[node.input[1]])
    edited = OnnxModel(model)
    edited.prune_graph()
    return edited.model
