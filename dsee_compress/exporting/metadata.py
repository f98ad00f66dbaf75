"""What an ONNX file says of itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..evaluation import shares


def describe(model: Any, entries: Mapping[str, str]) -> None:
    """Make `entries` all that a ModelProto says of itself, beside what its weights are of (see `parts`).

    What exporters note on the way goes: of each node the stack trace of the code that it was traced from, with the
    paths of this machine.
    """
    import onnx

    kept = {entry.key: entry.value for entry in model.metadata_props if entry.key == shares.SAID}
    _forget(model)
    onnx.helper.set_model_props(model, {**entries, **kept})


def read(path: Path) -> dict[str, str]:
    """The metadata of the model in `path`."""
    import onnx

    return {entry.key: entry.value for entry in onnx.load(str(path), load_external_data=False).metadata_props}


def _forget(message: Any) -> None:
    """Clear what a model, a graph or any part of one says of itself; graphs stand within nodes, too."""
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                _forget(part)
