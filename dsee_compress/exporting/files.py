"""ONNX graphs, read once and written once.

In memory they are OnnxModels, which passes change; on disk one file, or the graph in one and its weights beside it
where protobuf holds no more.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..evaluation import onnx_file
from ..progress import quiet
from . import metadata

LARGEST = 2**31 - 2**24
"""Bytes of weights above which they get a file of their own: 2 GB, and room for the graph."""
_SMALL = 256
"""Bytes of weights that stay in a graph without its weights: shapes among them, which its own are inferred from."""
_CONTRIB = "com.microsoft"


def load(path: Path) -> Any:
    """The OnnxModel in `path`, its weights with it."""
    from onnxruntime.transformers.onnx_model import OnnxModel

    return OnnxModel(onnx_file.read(path))


def of_program(program: Any) -> Any:
    """The OnnxModel of what torch's exporter returns, which is used up: each weight goes as soon as it is copied."""
    import onnx_ir
    from onnxruntime.transformers.onnx_model import OnnxModel

    assert program is not None
    values = [value for value in program.model.graph.initializers.values() if value.const_value is not None]
    weights = [value.const_value for value in reversed(values)]
    for value in values:
        value.const_value = None
    with quiet("onnx_ir.serde"):  # of values without weights
        model = program.model_proto
    for value in values:
        weight = weights.pop()
        weight.name = value.name
        onnx_ir.serde.serialize_tensor_into(model.graph.initializer.add(), from_=weight)
    return OnnxModel(model)


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
    if weights > LARGEST:
        onnx.save_model(model.model, str(path), save_as_external_data=True, location=weights_of(path).name)
    else:
        onnx_file.write(model.model, path)


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
    import onnxruntime
    from onnxruntime.transformers.onnx_model import OnnxModel

    large = {entry.name for entry in model.model.graph.initializer if len(entry.raw_data) > _SMALL}
    shell, arrays = taken_apart(model, large)
    return OnnxModel(shell), {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}


def taken_apart(model: Any, apart: Collection[str]) -> tuple[Any, dict[str, Any]]:
    """A copy of an OnnxModel's ModelProto that says of the weights of the names `apart` that they are elsewhere, and
    these as arrays, by name."""
    import onnx

    shell, weights = _shell(model.model, apart)
    return shell, {entry.name: onnx.numpy_helper.to_array(entry) for entry in weights}


def _shell(model: Any, apart: Collection[str]) -> tuple[Any, list[Any]]:
    """A copy of a ModelProto in which the weights of the names `apart` are said to be elsewhere, and these weights.

    Weight by weight: protobuf copies no message of more than 2 GB.
    """
    import onnx

    shell, weights = onnx.ModelProto(), []
    onnx_file.copy(model, shell, lambda field: field.name != "graph")
    onnx_file.copy(model.graph, shell.graph, lambda field: field.name != "initializer")
    for entry in model.graph.initializer:
        new = shell.graph.initializer.add()
        if entry.name in apart:
            weights.append(entry)
            onnx_file.copy(entry, new, lambda field: not field.name.endswith("_data"))
            new.data_location = onnx.TensorProto.EXTERNAL
            new.external_data.add(key="location", value="memory")
        else:
            new.CopyFrom(entry)
    return shell, weights
