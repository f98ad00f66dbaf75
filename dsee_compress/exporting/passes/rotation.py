"""Rotary positions of a batch: ONNX Runtime wants angles for each sequence, where a model has one set for all."""

from typing import TYPE_CHECKING, Any

import numpy as np
from onnxscript.rewriter import RewriteRule

from .. import rewriting

if TYPE_CHECKING:
    from onnx_ir import Value


def turned(op: Any, x: Any, cosines: Any, sines: Any) -> Any:
    """The pattern of a rotation by the same angles for all sequences.

    x: (batch, heads, tokens, head size); cosines, sines: (1, tokens, head size / 2).
    """
    return op.RotaryEmbedding(x, cosines, sines, _outputs=["turned"])


def _once_for_all(context: Any, cosines: "Value", **_: Any) -> bool:
    node = cosines.producer()
    return node is None or node.op_type != "Expand"


def _once_a_sequence(op: Any, x: "Value", cosines: "Value", sines: "Value", turned: "Value") -> "Value":
    node = rewriting.node_of(turned)
    ones = rewriting.weight(op, f"{node.name}_ones", np.ones(2, np.int64))
    shape = op.Concat(op.Shape(x, start=0, end=1), ones, axis=0)
    found: Value = op.RotaryEmbedding(x, op.Expand(cosines, shape), op.Expand(sines, shape), **node.attributes)
    return found


RULES = (RewriteRule(turned, _once_a_sequence, _once_for_all),)
