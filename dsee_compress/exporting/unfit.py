"""Why attention or GELU stayed many nodes: the first node that is not what a fusion looks for there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import NodeProto

_Step = tuple[tuple[str, ...], bool]
"""Operators of which one has to come next, and whether it may be left out."""
_BEFORE_SOFTMAX: Sequence[_Step] = (
    (("Add",), False),
    (("Add",), True),
    (("Div",), False),
    (("MatMul",), False),
    (("Transpose",), False),
)
_AFTER_SOFTMAX: Sequence[_Step] = ((("MatMul",), False),)
_BEFORE_ERF: Sequence[_Step] = ((("Div", "Mul"), False),)
_AFTER_ERF: Sequence[_Step] = ((("Add",), False), (("Mul",), False))


@dataclass(frozen=True)
class Unfit:
    """A Softmax or an Erf that no fusion took, and the place where a graph is not what it looks for."""

    node: str
    at: str
    found: str
    wanted: tuple[str, ...]

    def __str__(self) -> str:
        if not self.wanted:
            return f"all operators around {self.node} are what the fusion looks for, but some size or weight is not"
        return f"{self.at} is next to {self.found}, and the fusion looks for {' or '.join(self.wanted)}"


def unfit(model: Any) -> list[Unfit]:
    """Every Softmax and Erf of an OnnxModel, with the reason that it is one."""
    before, readers = model.output_name_to_node(), model.input_name_to_nodes()
    after = {name: nodes[0] for name, nodes in readers.items()}
    ways = {"Softmax": (_BEFORE_SOFTMAX, _AFTER_SOFTMAX), "Erf": (_BEFORE_ERF, _AFTER_ERF)}
    return [
        _deviation(node, ways[node.op_type][0], before, "input")
        or _deviation(node, ways[node.op_type][1], after, "output")
        or Unfit(node.name, node.name, "", ())
        for node in model.model.graph.node
        if node.op_type in ways
    ]


def told(model: Any) -> str:
    """One Softmax or Erf for each reason, as a sentence goes on; nothing, if there is none."""
    by_reason = {(one.found.partition(" ")[0], one.wanted): str(one) for one in reversed(unfit(model))}
    return "".join(f"; {one}" for one in reversed(by_reason.values()))


def _deviation(
    start: "NodeProto", steps: Sequence[_Step], neighbours: dict[str, "NodeProto"], side: str
) -> Unfit | None:
    """The first node on the way along inputs or outputs that is none of a step's operators, if there is one."""
    at = start
    for operators, optional in steps:
        following = next((neighbours[name] for name in getattr(at, side) if name in neighbours), None)
        if following is not None and following.op_type in operators:
            at = following
        elif not optional:
            found = f"{following.op_type} {following.name}" if following is not None else f"the graph's {side}"
            return Unfit(start.name, f"{at.op_type} {at.name}", found, operators)
    return None
