"""Lower precisions of a fused or portable fp32 graph: one function a precision, and the table of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..configs import Precision
from ..errors import UserError
from ..evaluation.inputs import Batch
from ..progress import quiet, tell
from . import attention, files, half, one_query, outliers, probe, rounding, static
from .activation import approximate_gelu


@dataclass(frozen=True)
class Rules:
    """What a target's arithmetic asks for."""

    reduce_range: bool
    """7-bit weights, for CPUs without VNNI, whose 16-bit sums of U8S8 products saturate."""
    signed_activations: bool
    """Static int8 with signed activations, which ARM multiplies faster."""
    block_size: int
    """Weights of int4 that share a scale."""

    @property
    def levels(self) -> int:
        """The largest int8 weight."""
        return 64 if self.reduce_range else 127


Samples = Callable[[], list[Batch]]
"""Padded batches of training examples, for precisions that have to see some."""


def fp16(source: Path, target: Path, rules: Rules, samples: Samples) -> dict[str, Any]:
    """Write `source` with weights and arithmetic in fp16 to `target`; the logits stay fp32.

    So does what goes beyond fp16's range on samples, or on random tokens where there are none: see `half.convert`.
    """
    looked_at = "training examples"
    try:
        batches = samples()
    except UserError as error:
        tell(f"fp16's range is checked on random tokens: {error}")
        batches = []
    if not batches:
        batches, looked_at = probe.random_examples(source), "random tokens"
    return half.convert(source, target, batches) | {"range_of": looked_at}


def int8(source: Path, target: Path, rules: Rules, samples: Samples) -> dict[str, Any]:
    """Write `source` with int8 weights, per channel, and activations quantised as they come, to `target`.

    Where there are samples, channels that are far larger than the others are brought to size first (`outliers`), and
    weights are rounded to fit them (`rounding`).
    """
    try:
        batches = samples()
    except UserError as error:
        tell(f"int8 is rounded without a look at examples: {error}")
        dynamic_int8(source, target, reduce_range=rules.reduce_range)
        return {"reduce_range": rules.reduce_range, "equalised": None}
    with _in_size(source, target, rules, batches) as (in_size, equalised):
        dynamic_int8(in_size, target, reduce_range=rules.reduce_range)
        rounding.fit(in_size, target, batches)
    return {"reduce_range": rules.reduce_range, "equalised": equalised}


def int8_static(source: Path, target: Path, rules: Rules, samples: Samples) -> dict[str, Any]:
    """Write `source` with int8 weights and ranges of activations that are fixed on training examples to `target`.

    As int8, and products that still hurt stay in fp32: see `static.calibrated`.
    """
    batches = samples()
    with (
        _in_parts(source, target, rules) as parts,
        _in_size(parts, target, rules, batches) as (in_size, equalised),
        quiet(*TALKATIVE),
    ):
        options = {"reduce_range": rules.reduce_range, "signed": rules.signed_activations}
        figures = static.calibrated(in_size, target, batches, **options)
    return figures | {"reduce_range": rules.reduce_range, "equalised": equalised}


def int4(source: Path, target: Path, rules: Rules, samples: Samples) -> dict[str, Any]:
    """Write `source` with int4 weights, a scale and a zero point a block, to `target`; embeddings in int8."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with _in_parts(source, target, rules) as parts, quiet(*TALKATIVE):
        # Accuracy level 4 multiplies in int8, which is what a CPU is fast at.
        model = files.load(parts).model
        quantizer = MatMulNBitsQuantizer(
            model,
            block_size=rules.block_size,
            accuracy_level=4,
            nodes_to_exclude=one_query.by_head(model.graph),
        )
        quantizer.process()
        files.save(quantizer.model.model, target)
    return {"block_size": rules.block_size}


TALKATIVE = ("root", "onnxruntime.quantization.matmul_nbits_quantizer", "onnxruntime.transformers.onnx_model")
"""Loggers of the quantisers' advice, which is about unfused graphs, and of their progress, node by node."""
_INT8 = ("Attention", "EmbedLayerNormalization", "Gather", "MatMul")
"""What dynamic int8 quantises: not Conv, whose int8 weights ONNX Runtime 1.22 has no kernel for."""

Lower = dict[Precision, Callable[[Path, Path, Rules, Samples], dict[str, Any]]]
"""How each precision below fp32 is made from it; what a function returns is noted in the export's metrics."""

LOWER: Lower = {
    "fp16": fp16,
    "int8": int8,
    "int8_static": int8_static,
    "int4": int4,
}
"""The precisions of encoders."""


@contextmanager
def _in_parts(source: Path, target: Path, rules: Rules) -> Iterator[Path]:
    """A file beside `target` with attention's products apart and the embeddings in int8; gone afterwards."""
    parts = target.with_suffix(".parts.onnx")
    model = files.load(source)
    attention.separate_all(model)
    files.save(model, parts)
    embeddings = ["EmbedLayerNormalization", "Gather"]
    dynamic_int8(parts, parts, reduce_range=rules.reduce_range, operators=embeddings)
    try:
        yield parts
    finally:
        files.remove(parts)


@contextmanager
def _in_size(source: Path, target: Path, rules: Rules, batches: list[Batch]) -> Iterator[tuple[Path, list[str]]]:
    """A file beside `target` whose products have inputs without outliers, gone afterwards, and which products."""
    in_size = target.with_suffix(".in_size.onnx")
    try:
        yield in_size, outliers.equalise(source, in_size, batches, rules.levels)
    finally:
        files.remove(in_size)


def dynamic_int8(
    source: Path, target: Path, *, reduce_range: bool, operators: Sequence[str] = _INT8, kept: Sequence[str] = ()
) -> None:
    """Write `source` with the weights of `operators` in int8 to `target`, but those of the nodes that are `kept`.

    Those of `one_query` stay, too. GELU becomes its approximation.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(str(source), load_external_data=False).graph
    # The quantiser knows operators by name alone, and takes ONNX's Attention for ONNX Runtime's, which holds weights.
    standard = [node.name for node in graph.node if node.op_type == "Attention" and not node.domain]
    lower = target.with_suffix(".lower.onnx")
    with quiet(*TALKATIVE):
        quantize_dynamic(
            source,
            lower,
            use_external_data_format=files.is_large(source),
            op_types_to_quantize=list(operators),
            nodes_to_exclude=[*standard, *one_query.by_head(graph), *kept],
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            # Contrib operators have no shape inference, so the type of their outputs has to be told.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT, "MatMulConstBOnly": True},
        )
    model = files.load(lower)
    files.remove(lower)
    approximate_gelu(model)
    files.save(model, target)
