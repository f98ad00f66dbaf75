"""Rewrite rules of onnxscript over what torch's exporter returns, before it becomes an OnnxModel."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx_ir import Model, Node, Value

CONTRIB = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""

_SMALL = 4
"""Numbers of what is a size or an index, and no weight."""


def rewrite(model: "Model", rules: Sequence[Any]) -> None:
    """Replace in a graph whatever a rule matches, rule by rule; what is then computed twice or unread goes."""
    from onnx_ir.passes import common
    from onnxscript.rewriter import RewriteRuleSet

    for rule in rules:
        RewriteRuleSet([rule]).apply_to_model(model)
        common.IdentityEliminationPass()(model)
    common.DeduplicateInitializersPass(size_limit=_SMALL)(model)
    common.CommonSubexpressionEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)


def constant(value: "Value | None") -> NDArray[Any] | None:
    """The numbers of a value, if they are known."""
    import onnx_ir

    tensor = onnx_ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else tensor.numpy()


def numbers(value: "Value") -> NDArray[Any]:
    """Those of a value that is a constant."""
    known = constant(value)
    assert known is not None
    return known


def weight(op: Any, name: str, array: NDArray[Any]) -> "Value":
    """A new weight of the graph that a rule writes into, under a name that no other has."""
    import onnx_ir

    value: Value = op.initializer(onnx_ir.tensor(np.ascontiguousarray(array)), name=name)
    return value


def named(value: "Value", name: str) -> "Value":
    """`value`, whose node now bears a name: what a weight is made of is told by names (see `parts`)."""
    node_of(value).name = name
    return value


def node_of(value: "Value") -> "Node":
    """The node that gives a value."""
    node = value.producer()
    assert node is not None
    return node
