"""Attention that a model computes step by step, as ONNX's one node.

transformers has a family's attention in torch's own operator, which is exported as one node, or as a product, a sum
with what masks, a softmax and a product. ELECTRA and MPNet have no other, and MPNet adds a bias by relative position.
Of a layer with one head, transformers 5 brings what torch's operator gives into the shape that it has.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from onnxscript.rewriter import RewriteRule

from .. import rewriting

if TYPE_CHECKING:
    from onnx_ir import Value


def _scores(op: Any, query: Any, keys: Any, scale: Any) -> Any:
    """keys: (batch, tokens, heads, head size); query: (batch, heads, tokens, head size)."""
    return op.Div(op.MatMul(query, op.Transpose(keys, perm=[0, 2, 3, 1])), scale)


def _masked(op: Any, query: Any, keys: Any, value: Any, scale: Any, mask: Any) -> Any:
    scores = op.Add(_scores(op, query, keys, scale), mask)
    return op.MatMul(op.Softmax(scores, axis=-1), value, _outputs=["mixed"])


def _biased(op: Any, query: Any, keys: Any, value: Any, scale: Any, bias: Any, mask: Any) -> Any:
    scores = op.Add(op.Add(_scores(op, query, keys, scale), bias), mask)
    return op.MatMul(op.Softmax(scores, axis=-1), value, _outputs=["mixed"])


def _by_one_number(context: Any, scale: "Value", **_: Any) -> bool:
    known = rewriting.constant(scale)
    return known is not None and known.size == 1


def _one_masked_node(op: Any, mask: "Value", mixed: "Value", **given: "Value") -> "Value":
    """ONNX Runtime wants a row of the mask for each query, as many as there are keys; a model may have one for all."""
    one = rewriting.weight(op, f"{rewriting.node_of(mixed).name}_one", np.ones(1, np.int64))
    rows = op.Concat(one, one, op.Shape(mask, start=3, end=4), one, axis=0)
    return _one_node(op, mask=op.Expand(mask, rows), mixed=mixed, **given)


def _one_node(
    op: Any, query: "Value", keys: "Value", value: "Value", scale: "Value", mask: "Value", mixed: "Value"
) -> "Value":
    key = op.Transpose(keys, perm=[0, 2, 1, 3])
    attention = op.Attention(query, key, value, mask, scale=1.0 / float(rewriting.numbers(scale).item()))
    return rewriting.named(attention, f"{rewriting.node_of(mixed).name}_attention")


def _one_biased_node(op: Any, bias: "Value", mask: "Value", **given: "Value") -> "Value":
    return _one_node(op, mask=op.Add(bias, mask), **given)


def is_biased(mask: "Value") -> bool:
    """Whether a node's mask is the sum of a bias, which is the first, and of what hides padding."""
    node = mask.producer()
    return node is not None and node.op_type == "Add"


def _has_the_shape(context: Any, x: "Value", same: "Value", **_: Any) -> bool:
    return x.shape is not None and x.shape == same.shape and not x.shape.has_unknown_dim()


RULES = (
    RewriteRule(
        lambda op, x, shape: op.Reshape(x, shape, _outputs=["same"]),
        lambda op, x, **_: op.Identity(x),
        _has_the_shape,
    ),
    RewriteRule(_biased, _one_biased_node, _by_one_number),
    RewriteRule(_masked, _one_masked_node, _by_one_number),
)
