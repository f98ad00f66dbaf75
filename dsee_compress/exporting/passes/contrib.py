"""ONNX's operators as ONNX Runtime's own: what its kernels and its quantiser know best on the CPU.

Attention takes its projections into one node, which dynamic int8 knows (QAttention). Where something stands between
the projections and the heads' products, as in ModernBERT, which turns queries and keys by position, the heads' products
alone are one node, MultiHeadAttention. A GELU takes the bias before it.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir
from onnxscript.rewriter import RewriteRule

from .. import rewriting
from ..rewriting import CONTRIB, constant
from . import eager, rotation

if TYPE_CHECKING:
    from onnx_ir import Model, Node, Value

_MASK = "attention_mask"
_LEAST = float(np.finfo(np.float32).min)
"""What is added to the score of a token that is padding: its exponential is 0."""


def rules(model: "Model", *, local: bool) -> list[RewriteRule]:
    """The rules for a graph of opset 23 or later, in their order.

    local: whether some of its masks hide more than padding, which Attention takes no other mask for.
    """
    padding = None if local else _padding(model)
    whole = [] if padding is None else [_attention(padding, biased=True), _attention(padding, biased=False)]
    return [*whole, *_RULES]


def _padding(model: "Model") -> "Value | None":
    """The mask of padding, int32 (batch, tokens), as ONNX Runtime's Attention takes it."""
    import onnx

    given = next((value for value in model.graph.inputs if value.name == _MASK), None)
    if given is None:
        return None
    cast = onnx_ir.node("Cast", [given], {"to": onnx.TensorProto.INT32}, name=f"{_MASK}_int32")
    cast.outputs[0].name = f"{_MASK}_int32"
    model.graph.insert_before(model.graph[0], cast)
    return cast.outputs[0]


def _head_size(sizes: "Value") -> int | None:
    """The last of the sizes that heads are brought apart by, if it is told."""
    node = sizes.producer()
    last = constant(node.inputs[-1] if node is not None and node.op_type == "Concat" else sizes)
    return None if last is None or last.reshape(-1)[-1] < 1 else int(last.reshape(-1)[-1])


def _attention(padding: "Value", *, biased: bool) -> RewriteRule:
    """Queries, keys and values of the same tokens, by weights that are known.

    padding: as `_padding` gives it. biased: a bias of each head by relative position is added to the mask of padding.
    """

    def check(context: Any, mask: "Value", sizes: "Value", **given: "Value") -> bool:
        known = all(constant(value) is not None for name, value in given.items() if name.endswith(("weight", "bias")))
        return known and _head_size(sizes) is not None and eager.is_biased(mask) == biased

    def replacement(op: Any, x: "Value", mask: "Value", sizes: "Value", mixed: "Value", **given: "Value") -> "Value":
        node, size = rewriting.node_of(mixed), _head_size(sizes)
        assert size is not None
        weights, biases = (
            [rewriting.numbers(given[f"{role}_{what}"]) for role in ("query", "key", "value")]
            for what in ("weight", "bias")
        )
        weight = rewriting.weight(op, f"{node.name}_qkv_weight", np.concatenate(weights, axis=1))
        bias = rewriting.weight(op, f"{node.name}_qkv_bias", np.concatenate(biases))
        more = [None, rewriting.node_of(mask).inputs[0]] if biased else []
        kind = _attributes(node, heads=len(biases[0]) // size)
        return rewriting.named(op.Attention(x, weight, bias, padding, *more, **kind), str(node.name))

    return RewriteRule(_of_the_same_tokens, replacement, check)


def _of_the_same_tokens(
    op: Any,
    x: Any,
    query_weight: Any,
    query_bias: Any,
    key_weight: Any,
    key_bias: Any,
    value_weight: Any,
    value_bias: Any,
    sizes: Any,
    mask: Any,
    together: Any,
) -> Any:
    """From tokens to the heads' answers side by side."""

    def heads(weight: Any, bias: Any) -> Any:
        return op.Transpose(op.Reshape(op.Add(op.MatMul(x, weight), bias), sizes), perm=[0, 2, 1, 3])

    query, key, value = heads(query_weight, query_bias), heads(key_weight, key_bias), heads(value_weight, value_bias)
    return _answers(op, query, key, value, mask, together)


def _answers(op: Any, query: Any, key: Any, value: Any, mask: Any, together: Any) -> Any:
    """query, key, value: (batch, heads, tokens, head size)."""
    mixed = op.Attention(query, key, value, mask, _outputs=["mixed"])
    return op.Reshape(op.Transpose(mixed, perm=[0, 2, 1, 3]), together)


def _attributes(node: "Node", heads: int) -> dict[str, Any]:
    """Those of an Attention node as one of ONNX Runtime's."""
    scale = node.attributes.get("scale")
    known = {} if scale is None else {"scale": scale.as_float()}
    return known | {"num_heads": heads, "mask_filter_value": _LEAST, "_domain": CONTRIB}


def _heads_are_known(context: Any, query: "Value", **_: Any) -> bool:
    return query.shape is not None and isinstance(query.shape[1], int)


def _of_heads(
    op: Any, query: "Value", key: "Value", value: "Value", mask: "Value", together: "Value", mixed: "Value"
) -> "Value":
    """One node, for which the heads of the queries stand side by side."""
    assert query.shape is not None
    node, heads = rewriting.node_of(mixed), query.shape[1]
    assert isinstance(heads, int)
    asked = op.Reshape(op.Transpose(query, perm=[0, 2, 1, 3]), together)
    if mask.dtype == onnx_ir.DataType.BOOL:
        seen, hidden = (
            rewriting.weight(op, f"{node.name}_{name}", np.array(number, np.float32))
            for name, number in (("seen", 0), ("hidden", _LEAST))
        )
        mask = op.Where(mask, seen, hidden)
    found = op.MultiHeadAttention(asked, key, value, None, None, mask, **_attributes(node, heads))
    return rewriting.named(found, str(node.name))


def _turned_by_tables(op: Any, x: "Value", cosines: "Value", sines: "Value", turned: "Value") -> "Value":
    """By the angles as tables, from the first place on."""
    node = rewriting.node_of(turned)
    zero = rewriting.weight(op, f"{node.name}_first", np.zeros(1, np.int64))
    tables = [op.Squeeze(angles, zero) for angles in (cosines, sines)]
    heads = node.attributes["num_heads"].as_int()
    return op.RotaryEmbedding(x, zero, *tables, _domain=CONTRIB, num_heads=heads)


def _gelu_of_sum(op: Any, x: Any, bias: Any) -> Any:
    return op.Gelu(op.Add(x, bias), approximate="none")


def _adds_a_bias(context: Any, bias: "Value", **_: Any) -> bool:
    known = constant(bias)
    return known is not None and known.ndim == 1


def _gelu(op: Any, x: Any) -> Any:
    return op.Gelu(x, approximate="none")


_RULES = (
    RewriteRule(_answers, _of_heads, _heads_are_known),
    RewriteRule(rotation.turned, _turned_by_tables),
    RewriteRule(_gelu_of_sum, lambda op, x, bias: op.BiasGelu(x, bias, _domain=CONTRIB), _adds_a_bias),
    RewriteRule(_gelu, lambda op, x: op.Gelu(x, _domain=CONTRIB)),
)
