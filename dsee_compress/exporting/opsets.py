"""The operator set of a graph: attention is one node from 23 on, and many runtimes read no set as new as that."""

from typing import Any

from ..errors import GateError

WITH_ATTENTION = 23
"""The first operator set with `Attention`."""


def lower(model: Any, opset: int) -> None:
    """Say that an OnnxModel, of a newer operator set, is of `opset`, as it is where each of its operators was there.

    An operator that both sets have does the same in both: newer sets add types, attributes and inputs. Raises GateError
    for an operator, or an attribute or input of one, that the older set has not.
    """
    import onnx

    said = next(entry for entry in model.model.opset_import if entry.domain == "")
    if said.version <= opset:
        return
    for node in model.nodes():
        if node.domain:
            continue
        try:
            known = onnx.defs.get_schema(node.op_type, opset)
        except onnx.defs.SchemaError as error:
            raise GateError(
                f"gate 'fusion' failed: {node.op_type} {node.name} stayed as it was, and opset {opset} has none; "
                f"export with opset {said.version}"
            ) from error
        newer = [entry.name for entry in node.attribute if entry.name not in known.attributes]
        newer += [f"the input {name}" for name in node.input[known.max_input :]]
        if newer:
            raise GateError(
                f"gate 'fusion' failed: {node.op_type} {node.name} has {newer[0]}, which opset {opset} has not; export "
                f"with opset {said.version}"
            )
    said.version = opset
