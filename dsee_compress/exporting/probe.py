"""What a graph does on examples: the tensors that it computes, its logits, and what a lower precision adds to them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation import session
from ..evaluation.inputs import Batch, Logits, positions, random_batches, random_prompts
from . import files
from .passes import one_query

if TYPE_CHECKING:
    from onnx import NodeProto

Array = NDArray[np.float32]
_TOKENS_A_PIECE = 1024
_RANDOM = [(16, 16)] * 8
"""Rows and tokens of batches where there are no examples."""


def decibels(wanted: Logits, found: Logits) -> float:
    """10 log₁₀ of the variance of `wanted` over the mean square of what `found` differs by."""
    noise = float(np.square(wanted.astype(np.float64) - found).mean())
    return float(10 * np.log10(wanted.var(axis=0, dtype=np.float64).mean() / noise)) if noise else float("inf")


def half(weight: Array) -> Array:
    """A weight as fp16 has it, in fp32; what is beyond its ends becomes these, as the conversion of graphs has it."""
    from onnxruntime.transformers.float16 import convert_np_to_float16

    rounded: Array = convert_np_to_float16(weight.ravel()).astype(np.float32).reshape(weight.shape)
    return rounded


def logits(model: Any, batches: list[Batch]) -> Logits:
    """What an OnnxModel gives for all rows of `batches`, (rows, labels)."""
    return np.concatenate([values["logits"] for values in tensors(model, ["logits"], batches)])


def pieces(batches: list[Batch], tokens: int) -> list[Batch]:
    """The first batches that have so many tokens, a few rows in each: all tensors of a piece fit into memory."""
    found, seen = [], 0
    for batch in batches:
        if seen >= tokens:
            break
        rows, length = batch["input_ids"].shape
        size = max(_TOKENS_A_PIECE // length, 1)
        found += [
            {name: array[start : start + size] for name, array in batch.items()} for start in range(0, rows, size)
        ]
        seen += rows * length
    return found


def tensors(model: Any, names: list[str], batches: list[Batch]) -> Iterator[dict[str, Array]]:
    """What these tensors of an OnnxModel hold, (batch, tokens, channels), for each of the batches."""
    import onnx

    variant, weights = files.without_weights(model)
    known = {entry.name for entry in variant.model.graph.output}
    others = [name for name in names if name not in known]
    variant.model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in others)
    with _opened(variant, weights) as run:
        for batch in batches:
            yield dict(zip(names, run(names, batch), strict=True))


def floats(model: Any) -> set[str]:
    """The tensors that the nodes of an OnnxModel write and that are of fp32."""
    import onnx

    variant, weights = files.without_weights(model)
    graph = variant.model.graph
    written = {name for node in graph.node for name in node.output if name}
    others = written - {entry.name for entry in graph.output}
    graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in sorted(others))
    live = _loaded(variant, weights)
    return written & {entry.name for entry in live.get_outputs() if entry.type == "tensor(float)"}


def require_loadable(model: Any) -> None:
    """UserError if ONNX Runtime does not take an OnnxModel."""
    _loaded(*files.without_weights(model))


def random_examples(graph: Any) -> list[Batch]:
    """Random tokens for the model of a graph."""
    names = [entry.name for entry in graph.input]
    vocabulary = _vocabulary(graph)
    if any(name.startswith("past_") for name in names):
        return random_prompts(_RANDOM, vocabulary)
    return random_batches(_RANDOM, vocabulary, names, pad_token=1)


def _vocabulary(graph: Any) -> int:
    """Tokens that a graph knows: the rows of the table that it looks `input_ids` up in."""
    tables, ids = {entry.name: entry.dims[0] for entry in graph.initializer if entry.dims}, {"input_ids"}
    for node in graph.node:
        table, given = {"Gather": (0, 1), "EmbedLayerNormalization": (2, 0)}.get(node.op_type, (None, 0))
        if node.input and node.input[given] in ids:
            if table is None:
                ids.update(node.output)
            elif node.input[table] in tables:
                return int(tables[node.input[table]])
    raise AssertionError("no table is looked up by input_ids")


@contextmanager
def disturbed(model: Any, names: list[str]) -> Iterator[Callable[[Batch, dict[str, Array]], Logits]]:
    """An OnnxModel as a function of a batch, and of what is added to some of these tensors, to logits."""
    import onnx

    variant, weights = files.without_weights(model)
    graph, added = variant.model.graph, {}
    for node in graph.node:
        for index, name in enumerate(node.output):
            if name in names:
                node.output[index] = f"{name}_undisturbed"
                added[name] = onnx.helper.make_node("Add", [f"{name}_undisturbed", f"{name}_added"], [name])
    for name, node in added.items():
        graph.node.append(node)
        entry = onnx.helper.make_tensor_value_info(f"{name}_added", onnx.TensorProto.FLOAT, None)
        graph.input.append(entry)
        graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.float32), entry.name))
    with _opened(variant, weights) as run:
        yield lambda batch, errors: run(["logits"], batch | {f"{name}_added": errors[name] for name in errors})[0]


@contextmanager
def _opened(model: Any, weights: dict[str, Any]) -> Iterator[Callable[[list[str], Batch], list[Array]]]:
    """A session of an OnnxModel whose weights stand apart: a function of names of outputs and a feed.

    A decoder is given prompts, whose tokens are counted from the mask: it remembers nothing of earlier ones.
    """
    live = _loaded(model, weights)
    asked = live.get_inputs()
    known = {entry.name for entry in (*asked, *live.get_overridable_initializers())}
    shapes = {entry.name: entry.shape for entry in asked if entry.name.startswith("past_")}

    def run(names: list[str], feed: Batch) -> list[Array]:
        rows = len(feed["input_ids"])
        past = {name: np.zeros((rows, heads, 0, size), np.float32) for name, (_, heads, _, size) in shapes.items()}
        given = feed | past
        if "position_ids" in known - given.keys():
            given["position_ids"] = positions(feed["attention_mask"])
        found: list[Array] = live.run(names, {name: given[name] for name in given if name in known})
        return found

    yield run


def _loaded(model: Any, weights: dict[str, Any]) -> Any:
    """A session of an OnnxModel whose weights stand apart."""
    model.topological_sort()
    return session.of_model(model.model.SerializeToString(), "the graph", weights=weights)


def products(graph: Any) -> list["NodeProto"]:
    """The MatMuls of a graph with a weight, but those of `one_query`."""
    weights, others = {entry.name for entry in graph.initializer}, one_query.by_head(graph)
    nodes = (node for node in graph.node if node.op_type == "MatMul" and node.name not in others)
    return [node for node in nodes if node.input[1] in weights]


def matrices(model: Any, nodes: list["NodeProto"]) -> list["NodeProto"]:
    """Those of the nodes of an OnnxModel whose weight is a matrix that they alone read."""
    readers = model.input_name_to_nodes()

    def own(node: "NodeProto") -> bool:
        weight = model.get_initializer(node.input[1])
        return weight is not None and len(weight.dims) == 2 and len(readers[weight.name]) == 1

    return [node for node in nodes if own(node)]
