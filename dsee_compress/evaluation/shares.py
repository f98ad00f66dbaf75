"""What the parts of a model weigh in an ONNX file."""

import json
from collections.abc import Mapping
from math import ceil, prod
from pathlib import Path
from typing import Any

from ..errors import UserError
from . import onnx_file

PARTS = ("embeddings", "attention", "ffn", "task_head")
SAID = "parts"
"""Under this name a file says, as JSON, which weights are of which of PARTS."""


def megabytes(path: Path) -> dict[str, float]:
    """MB (10⁶ bytes) of the weights of each of PARTS, with their scales, whatever their precision.

    The file says what each is of; UserError if it does not.
    """
    import onnx

    model = onnx_file.read(path, weights=False)
    said = next((entry.value for entry in model.metadata_props if entry.key == SAID), None)
    if said is None:
        raise UserError(f"{path} does not say what its weights are of; export again with --overwrite")
    parts = json.loads(said)
    total = dict.fromkeys(PARTS, 0.0)
    for tensor in model.graph.initializer:
        # Whole numbers of that size are shapes.
        if tensor.data_type != onnx.TensorProto.INT64 and (found := part(tensor.name, parts)):
            total[found] += _bytes(tensor) / 1e6
    return total


def part(name: str, parts: Mapping[str, str]) -> str | None:
    """The part of a weight, or of what it was made of and named after: with a "_" and more behind that name."""
    while name and name not in parts:
        name = name.rpartition("_")[0]
    return parts.get(name)


def vocabulary_megabytes(path: Path, tokens: int) -> float:
    """MB (10⁶ bytes) of the weights that have a row or column for each of so many tokens."""
    graph = onnx_file.read(path, weights=False).graph
    in_blocks = {
        name
        for node in graph.node
        if any(attribute.name == "N" and attribute.i == tokens for attribute in node.attribute)
        for name in node.input
    }
    tensors = (entry for entry in graph.initializer if entry.name in in_blocks or len(entry.dims) == 2)
    return sum(_bytes(entry) for entry in tensors if entry.name in in_blocks or tokens in entry.dims) / 1e6


def _bytes(tensor: Any) -> int:
    import onnx

    four_bits = {onnx.TensorProto.INT4, onnx.TensorProto.UINT4}
    size = 0.5 if tensor.data_type in four_bits else onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return ceil(prod(tensor.dims) * size)
