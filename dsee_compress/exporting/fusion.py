"""Count the nodes that attention and GELU became, and refuse a graph where they did not become one each."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ..errors import GateError
from . import unfit

_ATTENTION = {"Attention", "QAttention", "MultiHeadAttention", "GroupQueryAttention"}
_GELU = {"Gelu", "BiasGelu", "FastGelu"}


@dataclass(frozen=True)
class NodeCount:
    """What a graph consists of."""

    attention: int
    gelu: int
    unfused: int
    """Softmax and Erf nodes: what attention and GELU leave where they were not fused."""
    nodes: int


def count_nodes(model: Any) -> NodeCount:
    """Count the fused nodes of an OnnxModel."""
    kinds = Counter(node.op_type for node in model.model.graph.node)
    return NodeCount(
        attention=sum(kinds[kind] for kind in _ATTENTION),
        gelu=sum(kinds[kind] for kind in _GELU),
        unfused=kinds["Softmax"] + kinds["Erf"],
        nodes=kinds.total(),
    )


def require_fused(model: Any, name: str, layers: int) -> NodeCount:
    """Count, and raise GateError unless every layer of an OnnxModel is one attention node and one GELU node.

    A task head may have a GELU of its own, fused like the others.
    """
    found = count_nodes(model)
    if found.attention != layers or found.gelu < layers or found.unfused:
        raise GateError(
            f"gate 'fusion' failed: {name} has {found.attention} attention and {found.gelu} GELU nodes "
            f"for {layers} layers, and {found.unfused} Softmax and Erf nodes that stayed unfused{unfit.told(model)}"
        )
    return found
