"""Residual sums and layer normalisations: two operators for ONNX Runtime's CPU provider, one for cards.

SkipLayerNormalization does both, on the CPU in one scalar loop: a Sum and a LayerNormalization, each vectorised, take a
quarter of its time; and the bias that it adds goes into the product before it where that is int8. Embeddings are alike:
EmbedLayerNormalization looks them up, adds and normalises them, on a card in one launch.
"""

from typing import TYPE_CHECKING, Any

from onnxscript.rewriter import RewriteRule

from .. import rewriting
from ..rewriting import CONTRIB, constant

if TYPE_CHECKING:
    from onnx_ir import Value


def sum_before(model: Any) -> int:
    """Let every layer normalisation of a sum in an OnnxModel be a Sum and a LayerNormalization.

    It is Sum, not Add: an Add before a LayerNormalization is fused into SkipLayerNormalization when a session loads the
    model. The function stays the same. Returns how many there are.
    """
    weights = {entry.name for entry in model.model.graph.initializer}
    producers = model.output_name_to_node()
    sums = 0
    for node in model.get_nodes_by_op_type("LayerNormalization"):
        before = producers.get(node.input[0])
        if before is not None and before.op_type in ("Add", "Sum") and weights.isdisjoint(before.input):
            before.op_type = "Sum"
            sums += 1
    return sums


def _normalised_sum(op: Any, x: Any, residual: Any, scale: Any, shift: Any) -> Any:
    return op.LayerNormalization(op.Add(x, residual), scale, shift, _outputs=["normalised"])


def _normalised_biased_sum(op: Any, x: Any, bias: Any, residual: Any, scale: Any, shift: Any) -> Any:
    return _normalised_sum(op, op.Add(x, bias), residual, scale, shift)


def _of_tokens(context: Any, x: "Value", residual: "Value", **_: Any) -> bool:
    return constant(x) is None and constant(residual) is None


def _with_a_bias(context: Any, bias: "Value", **given: "Value") -> bool:
    return constant(bias) is not None and _of_tokens(context, **given)


def _skip(
    op: Any,
    x: "Value",
    residual: "Value",
    scale: "Value",
    shift: "Value",
    normalised: "Value",
    bias: "Value | None" = None,
) -> "Value":
    given = [x, residual, scale, shift, *([] if bias is None else [bias])]
    found: Value = op.SkipLayerNormalization(*given, _domain=CONTRIB, epsilon=_epsilon(normalised))
    return found


def _embedded(
    op: Any, words: Any, ids: Any, types: Any, kinds: Any, places: Any, positions: Any, scale: Any, shift: Any
) -> Any:
    found = op.Add(op.Gather(words, ids), op.Gather(types, kinds))
    return _normalised_sum(op, found, op.Gather(places, positions), scale, shift)


def _embedded_without_types(op: Any, words: Any, ids: Any, places: Any, positions: Any, scale: Any, shift: Any) -> Any:
    return _normalised_sum(op, op.Gather(words, ids), op.Gather(places, positions), scale, shift)


def _embed(
    op: Any,
    words: "Value",
    ids: "Value",
    places: "Value",
    positions: "Value",
    scale: "Value",
    shift: "Value",
    normalised: "Value",
    types: "Value | None" = None,
    kinds: "Value | None" = None,
) -> "Value":
    import onnx

    ids, positions = (op.Cast(given, to=onnx.TensorProto.INT32) for given in (ids, positions))
    kinds = None if kinds is None else op.Cast(kinds, to=onnx.TensorProto.INT32)
    given = [ids, kinds, words, places, types, scale, shift, None, positions]
    found, _ = op.EmbedLayerNormalization(*given, _domain=CONTRIB, _outputs=2, epsilon=_epsilon(normalised))
    return found


def _epsilon(normalised: "Value") -> float:
    return rewriting.node_of(normalised).attributes["epsilon"].as_float()


TOGETHER = (
    RewriteRule(_embedded, _embed),
    RewriteRule(_embedded_without_types, _embed),
    RewriteRule(_normalised_biased_sum, _skip, _with_a_bias),
    RewriteRule(_normalised_sum, _skip, _of_tokens),
)
"""For cards."""
