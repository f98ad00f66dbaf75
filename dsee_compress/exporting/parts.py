"""What part of the model each weight of a graph is of, said in the graph: exporters know the module that it comes from.

A weight that is made of another one, or of a node, bears its name with more behind a "_", and is of the same part.
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..architectures import Architecture
from ..evaluation import shares

if TYPE_CHECKING:
    from onnx import NodeProto

_WRAPPER = "_model."
"""What is before every path of a decoder, which is exported within a module of ours."""
_SCORES = "lm_head"
"""What scores the vocabulary in transformers' language models."""
_SCOPES = "pkg.torch.onnx.name_scopes"
_CARRIES_ON = {"Cast", "Identity", "Reshape", "Transpose", "Unsqueeze"}
_OF_TABLES = {"Gather", "Gemm", "MatMul"}
"""What has a table for its first input: looks tokens up in it, or applies weights to it."""


def of(model: Any, family: Architecture) -> dict[str, str]:
    """Parts by the names of weights of an OnnxModel as an exporter wrote it.

    Tables that tokens are looked up in, and those that weights are applied to (DeBERTa's relative positions, whose own
    name an exporter may lose), are embeddings, unless they stand at a place of a layer.
    """
    import onnx

    readers, found = model.input_name_to_nodes(), {}
    for entry in model.model.graph.initializer:
        if entry.data_type != onnx.TensorProto.FLOAT:
            continue
        read = [*_read(entry.name, readers)]
        first = {node.op_type for name, node in read if node.input[0] == name}
        part = _of_path(entry.name, family)
        if part not in ("attention", "ffn") and first & _OF_TABLES:
            part = "embeddings"
        if part is None and len(entry.dims) > 1:
            part = next(filter(None, (_of_path(_path(node), family) for _, node in read)), None)
        if part:
            found[entry.name] = part
    return found


def of_attention(model: Any) -> dict[str, str]:
    """The part of Attention nodes that hold their weights, which are named after them."""
    return {node.name: "attention" for node in model.get_nodes_by_op_type("Attention") if node.domain}


def say(model: Any, known: Mapping[str, str], family: Architecture) -> None:
    """Let an OnnxModel say of its weights what is `known` of them, and of what they were made of."""
    import onnx

    names = {entry.name for entry in model.model.graph.initializer}
    found = {name: shares.part(name, known) or _of_path(name, family) for name in sorted(names)}
    nodes = {node.name: known.get(node.name) for node in model.nodes()}
    told = {name: part for name, part in (found | nodes).items() if part}
    onnx.helper.set_model_props(model.model, {shares.SAID: json.dumps(told)})


def _read(tensor: str, readers: Mapping[str, list["NodeProto"]]) -> Iterator[tuple[str, "NodeProto"]]:
    """The nodes that read a tensor, or what only carries it on, each with the name that it reads."""
    for node in readers.get(tensor, []):
        if node.op_type in _CARRIES_ON:
            yield from _read(node.output[0], readers)
        else:
            yield tensor, node


def _path(node: "NodeProto") -> str:
    """Of the module that a node comes from, or of something within it."""
    scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), None)
    return ast.literal_eval(scopes)[-2] + "." if scopes else node.name.strip("/").replace("/", ".")


def _of_path(path: str, family: Architecture) -> str | None:
    path = path.removeprefix(_WRAPPER)
    heads = (_SCORES, *(head for heads in family.heads.values() for head in heads))
    if path.startswith(tuple(f"{head}." for head in heads)):
        return "task_head"
    layer = re.match(rf"{re.escape(family.layers)}\.\d+\.", path)
    if layer is None:
        return "embeddings" if "embeddings" in path else None
    inside = path[layer.end() :]
    for place, linear in family.linears.items():
        if inside.startswith(f"{linear}."):
            return "ffn" if place.startswith("ffn") else "attention"
    return "attention" if inside.startswith(f"{family.attention}.") else None
