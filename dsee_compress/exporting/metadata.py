"""What an ONNX file says of itself."""

from collections.abc import Mapping
from pathlib import Path


def write(path: Path, entries: Mapping[str, str]) -> None:
    """Put `entries` among the metadata of the model in `path`."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    onnx.helper.set_model_props(model, dict(entries))
    onnx.save(model, str(path))


def read(path: Path) -> dict[str, str]:
    """The metadata of the model in `path`."""
    import onnx

    return {entry.key: entry.value for entry in onnx.load(str(path), load_external_data=False).metadata_props}
