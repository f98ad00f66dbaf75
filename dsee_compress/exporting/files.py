"""ONNX graphs, read once and written once.

In memory they are OnnxModels, which passes change; on disk one file, or the graph in one and its weights beside it
where protobuf holds no more.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from . import metadata

LARGEST = 2**31 - 2**24
"""Bytes of weights above which they get a file of their own: 2 GB, and room for the graph."""
_SMALL = 256
"""Bytes of weights that stay in a graph without its weights: shapes among them, which its own are inferred from."""
_CONTRIB = "com.microsoft"


def load(path: Path) -> Any:
    """The OnnxModel in `path`, its weights with it."""
    import onnx
    from onnxruntime.transformers.onnx_model import OnnxModel

    return OnnxModel(onnx.load(str(path)))


def of_program(program: Any) -> Any:
    """The OnnxModel of what torch's exporter returns."""
    from onnxruntime.transformers.onnx_model import OnnxModel

    assert program is not None
    return OnnxModel(program.model_proto)


def save(model: Any, path: Path, about: dict[str, str] | None = None) -> None:
    """Write an OnnxModel to `path` in place of what was there; `model` is used up by it.

    about: all that the file says of itself (see `metadata`).
    """
    import onnx

    metadata.describe(model.model, about or {})
    model.topological_sort()
    domains = {entry.domain for entry in model.model.opset_import}
    if _CONTRIB not in domains and any(node.domain == _CONTRIB for node in model.model.graph.node):
        model.model.opset_import.add(domain=_CONTRIB, version=1)
    remove(path)
    path.parent.mkdir(exist_ok=True)
    weights = sum(len(tensor.raw_data) for tensor in model.model.graph.initializer)
    apart = {"save_as_external_data": True, "location": weights_of(path).name} if weights > LARGEST else {}
    onnx.save_model(model.model, str(path), **apart)


def weights_of(path: Path) -> Path:
    """Where the weights of the graph in `path` are, if it does not hold them itself; Optimum and transformers.js look
    for them by that name."""
    return path.with_name(f"{path.name}_data")


def remove(path: Path) -> None:
    """Remove the model in `path`, if there is one."""
    path.unlink(missing_ok=True)
    weights_of(path).unlink(missing_ok=True)


def copied(model: Any) -> Any:
    """An OnnxModel like `model`, of any size."""
    from onnxruntime.transformers.onnx_model import OnnxModel

    copy, _ = _shell(model.model, apart=())
    return OnnxModel(copy)


def without_weights(model: Any) -> tuple[Any, dict[str, Any]]:
    """A copy of an OnnxModel whose larger weights stand apart, and these as OrtValues, by name.

    A session takes the two together: so it is made of a graph of any size without a file, or a second copy of weights.
    """
    import onnx
    import onnxruntime
    from onnxruntime.transformers.onnx_model import OnnxModel

    large = {entry.name for entry in model.model.graph.initializer if len(entry.raw_data) > _SMALL}
    shell, weights = _shell(model.model, apart=large)
    arrays = {entry.name: onnx.numpy_helper.to_array(entry) for entry in weights}
    return OnnxModel(shell), {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}


def _shell(model: Any, apart: Collection[str]) -> tuple[Any, list[Any]]:
    """A copy of a ModelProto in which the weights of the names `apart` are said to be elsewhere, and these weights.

    Weight by weight: protobuf copies no message of more than 2 GB.
    """
    import onnx

    shell, weights = onnx.ModelProto(), []
    _copy(model, shell, but="graph")
    _copy(model.graph, shell.graph, but="initializer")
    for entry in model.graph.initializer:
        new = shell.graph.initializer.add()
        if entry.name in apart:
            weights.append(entry)
            _copy(entry, new, but="raw_data")
            new.data_location = onnx.TensorProto.EXTERNAL
            new.external_data.add(key="location", value="memory")
        else:
            new.CopyFrom(entry)
    return shell, weights


def _copy(source: Any, target: Any, but: str) -> None:
    """Set every field of a message as in `source`, but one."""
    for field, value in source.ListFields():
        if field.name == but:
            continue
        if hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        elif field.message_type is not None:
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)
