"""A graph in fp16, but for the nodes whose numbers fp16 does not hold, and what fp16 then does to the logits."""

from typing import Any

import numpy as np

from ...errors import GateError, UserError
from ...evaluation.inputs import Batch
from .. import files, probe
from . import ranges
from .ranges import Beyond

LEAST_SIGNAL_TO_NOISE = 24.0
"""Decibels of the logits over what fp16 adds to them: as static int8 has to reach. fp16 has 60 and more."""
MOST_KEPT = 0.5
"""Of a graph's numbers in matrices: where more stay in fp32, fp16 saves too little to be worth its name."""
_TOKENS = 512
"""So many, and the rest of their batch, give the logits."""


def convert(model: Any, batches: list[Batch]) -> dict[str, Any]:
    """Turn weights and arithmetic of an OnnxModel into fp16; logits and what is remembered stay fp32.

    batches: examples, on which nodes are found that stay in fp32 (`ranges`). GateError if they are too many, or if
    fp16's rounding between the others ruins the logits. Returns the nodes in fp32, and the logits' signal-to-noise
    ratio in decibels.
    """
    beyond = ranges.beyond(model, batches)
    _require_few(model, beyond)
    reached = _signal_to_noise(model, beyond, batches)
    if beyond.nodes:
        _convert_around(model, beyond)
        _require_loadable(model)
    else:
        # What contrib operators give has no inferred shape, and the conversion needs none.
        model.disable_shape_inference()
        model.convert_float_to_float16(use_symbolic_shape_infer=False, keep_io_types=True)
    return {"fp32_nodes": beyond.nodes, "signal_to_noise_db": reached}


def _require_loadable(model: Any) -> None:
    """GateError if ONNX Runtime does not take the graph: numbers cross into a subgraph, where no casts are put."""
    try:
        probe.require_loadable(model)
    except UserError as error:
        raise GateError(f"gate 'fp16' failed: {error}; leave fp16 out of the precisions") from error


def _require_few(model: Any, beyond: Beyond) -> None:
    """GateError if the nodes that stay in fp32 read more of the matrices than fp16 is worth."""
    sizes = {entry.name: np.prod(entry.dims) for entry in model.model.graph.initializer if len(entry.dims) > 1}
    kept = {name for node in model.nodes() if node.name in beyond.nodes for name in node.input if name in sizes}
    share = sum(sizes[name] for name in kept) / max(sum(sizes.values()), 1)
    if share > MOST_KEPT:
        raise GateError(
            f"gate 'fp16' failed: {share:.0%} of the weights are read where numbers come too near to "
            f"{ranges.LARGEST:,.0f}, the largest of fp16 (allowed {MOST_KEPT:.0%}); leave fp16 out of the precisions"
        )


def _signal_to_noise(model: Any, beyond: Beyond, batches: list[Batch]) -> float:
    """Decibels of the logits over what fp16 adds, by a graph in fp32 that rounds between nodes as fp16 does.

    ONNX Runtime's CPU provider would run the graph in fp16 without rounding anything. GateError if it is too little.
    """
    pieces = probe.pieces(batches, _TOKENS)
    wanted, found = (
        np.concatenate([_of_tokens(values["logits"], piece) for values, piece in zip(given, pieces, strict=True)])
        for given in (probe.tensors(graph, ["logits"], pieces) for graph in (model, _rounding(model, beyond)))
    )
    if not np.isfinite(found).all():
        raise GateError(
            f"gate 'fp16' failed: {(~np.isfinite(found)).any(axis=-1).mean():.0%} of the examples' logits are no "
            "finite numbers in fp16; leave fp16 out of the precisions"
        )
    noise = float(np.square(wanted.astype(np.float64) - found).mean())
    reached = float(10 * np.log10(np.square(wanted, dtype=np.float64).mean() / noise)) if noise else float("inf")
    if reached < LEAST_SIGNAL_TO_NOISE:
        raise GateError(
            f"gate 'fp16' failed: the logits' signal-to-noise ratio is {reached:.1f} dB (least "
            f"{LEAST_SIGNAL_TO_NOISE:g}); leave fp16 out of the precisions"
        )
    return reached


def _of_tokens(logits: Any, batch: Batch) -> Any:
    """Logits (rows, outputs): of a decoder, those of tokens that are no padding."""
    return logits[batch["attention_mask"] == 1] if logits.ndim == 3 else logits


def _rounding(source: Any, beyond: Beyond) -> Any:
    """A copy of an OnnxModel that rounds to fp16 what fp16 would: weights, and what nodes write."""
    import onnx

    model, kept = files.copied(source), {*beyond.nodes}
    halved = {name for node in model.model.graph.node if node.name not in kept for name in node.input}
    constants = [entry for entry in model.model.graph.initializer if entry.name in halved]
    constants += [entry.t for node in model.model.graph.node if node.name not in kept for entry in node.attribute]
    for entry in constants:
        if entry.data_type == onnx.TensorProto.FLOAT:
            rounded = probe.half(onnx.numpy_helper.to_array(entry))
            entry.CopyFrom(onnx.numpy_helper.from_array(rounded, entry.name))
    casts = []
    for node in model.model.graph.node:
        for index, name in enumerate(node.output):
            if name in beyond.floats - beyond.inner:
                node.output[index] = f"{name}_exact"
                to = {"half": onnx.TensorProto.FLOAT16, "": onnx.TensorProto.FLOAT}
                casts += [
                    onnx.helper.make_node("Cast", [f"{name}_exact"], [f"{name}_half"], to=to["half"]),
                    onnx.helper.make_node("Cast", [f"{name}_half"], [name], to=to[""]),
                ]
    model.add_nodes(casts)
    return model


def _convert_around(model: Any, beyond: Beyond) -> None:
    """Turn an OnnxModel into fp16 but for some nodes, with casts where numbers go in and out of those."""
    import onnx
    from onnxruntime.transformers import float16

    graph = model.model.graph
    # The conversion casts what it knows the type of: all that is not between nodes in fp32.
    del graph.value_info[:]
    outer = sorted(beyond.floats - beyond.inner - {entry.name for entry in graph.output})
    graph.value_info.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outer)
    blocked = [*beyond.nodes]
    model.initialize(
        float16.convert_float_to_float16(
            model.model, keep_io_types=True, disable_shape_infer=True, node_block_list=blocked
        )
    )
    # A cast down and up again on the way from one node in fp32 to another.
    model.remove_cascaded_cast_nodes()
    model.topological_sort()
    del model.model.graph.value_info[:]
