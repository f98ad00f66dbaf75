"""ONNX files: one file, or the graph in one and its weights beside it where protobuf holds no more."""

from pathlib import Path
from typing import Any

LARGEST = 2**31 - 2**24
"""Bytes of weights above which they get a file of their own: 2 GB, and room for the graph."""


def load(path: Path) -> Any:
    """The OnnxModel in `path`, its weights with it."""
    import onnx
    from onnxruntime.transformers.onnx_model import OnnxModel

    return OnnxModel(onnx.load(str(path)))


def save(model: Any, path: Path) -> None:
    """Write an OnnxModel, or the ModelProto of one, to `path` in place of what was there; `model` is used up by it."""
    import onnx
    from onnxruntime.transformers.onnx_model import OnnxModel

    whole = OnnxModel(model) if isinstance(model, onnx.ModelProto) else model
    remove(path)
    weights = sum(len(tensor.raw_data) for tensor in whole.model.graph.initializer)
    whole.save_model_to_file(str(path), use_external_data_format=weights > LARGEST)


def is_large(path: Path) -> bool:
    """Whether the weights of what is made from `path` may need a file of their own."""
    return sum(part.stat().st_size for part in (path, _weights(path)) if part.exists()) > LARGEST


def remove(path: Path) -> None:
    """Remove the model in `path`, if there is one."""
    path.unlink(missing_ok=True)
    _weights(path).unlink(missing_ok=True)


def _weights(path: Path) -> Path:
    return path.with_name(f"{path.name}.data")
