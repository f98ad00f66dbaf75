"""What this machine computes with: what runs here, and gives other answers here than on what it is for."""

from functools import cache
from typing import Any

import numpy as np

from ..errors import UserError
from . import session

_LENGTH = 64
"""Products in a sum that 16 bits do not hold."""


@cache
def obstacle(provider: str) -> str:
    """Why nothing runs on the provider here; empty if it does. UserError if ONNX Runtime is not installed."""
    from onnx import TensorProto

    available = session.runtime().get_available_providers()
    if session.PROVIDERS[provider] not in available:
        return f"this ONNX Runtime has only {', '.join(name.removesuffix('ExecutionProvider') for name in available)}"
    model = _of_one_node("Neg", {"x": (TensorProto.FLOAT, [1])}, TensorProto.FLOAT)
    try:
        session.of_model(model, "a model of one node", provider)
    except UserError as error:
        return str(error)
    return ""


@cache
def saturates() -> bool:
    """Whether sums of uint8 times int8 stop at 16 bits on this machine's CPU, as those of x86 without VNNI do."""
    from onnx import TensorProto

    given = {"levels": (TensorProto.UINT8, [1, _LENGTH]), "weight": (TensorProto.INT8, [_LENGTH, 1])}
    live = session.of_model(_of_one_node("MatMulInteger", given, TensorProto.INT32), "a model of one product")
    largest = {"levels": np.full((1, _LENGTH), 255, np.uint8), "weight": np.full((_LENGTH, 1), 127, np.int8)}
    (sums,) = live.run(None, largest)
    return bool(sums.item() != _LENGTH * 255 * 127)


def _of_one_node(operator: str, given: dict[str, tuple[int, list[int]]], gives: int) -> bytes:
    """A model of one operator; given: types and shapes of its inputs; gives: the type of its output."""
    from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

    inputs = [make_tensor_value_info(name, *described) for name, described in given.items()]
    output = make_tensor_value_info("y", gives, None)
    graph = make_graph([make_node(operator, [*given], ["y"])], operator, inputs, [output])
    model: Any = make_model(graph, opset_imports=[make_opsetid("", 18)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content
