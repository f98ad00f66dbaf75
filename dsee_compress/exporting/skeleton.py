"""Graphs of models of any structure, without tracing each: what follows the structure is told by how two graphs differ.

Two models that differ in how many heads and neurons their layers have are exported to graphs of the same nodes, in
which some numbers differ: dimensions of weights, counts of heads, shapes to reshape to. Each of them grows with the
heads or the neurons of some layers, by a factor that tells which. Weights are those of the first graph, cut or
repeated: of what such a graph answers nothing can be said, but all of the time that it takes.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import files, metadata


@dataclass(frozen=True)
class Counts:
    """Units of the layers of a model that are alike but for the last, which may be computed for one token alone."""

    heads: int
    neurons: int
    last_heads: int
    last_neurons: int

    def by_layer(self, layers: int) -> tuple[list[int], list[int]]:
        """Heads and neurons of each of so many layers."""
        before = layers - 1
        return [self.heads] * before + [self.last_heads], [self.neurons] * before + [self.last_neurons]


def two(head_size: int, block_size: int) -> tuple[Counts, Counts]:
    """What the two graphs have: no two numbers grow by the same factor, and weights fill int4's blocks, two by two."""
    pair = 2 * block_size
    heads = pair // math.gcd(pair, head_size)
    return (
        Counts(heads=5 * heads, neurons=9 * pair, last_heads=7 * heads, last_neurons=11 * pair),
        Counts(heads=15 * heads, neurons=18 * pair, last_heads=17 * heads, last_neurons=39 * pair),
    )


class UnlikeGraphsError(ValueError):
    """Two graphs differ in more than numbers, or in one that no heads or neurons account for."""


class _Number(NamedTuple):
    """A number somewhere in a graph."""

    value: int
    put: Callable[[int], None]
    """Writes another in its place."""


class Skeleton:
    """Graphs by `Counts`."""

    def __init__(self, first: Any, second: Any, counts: tuple[Counts, Counts]) -> None:
        """Of two OnnxModels, of models with `counts`; raises UnlikeGraphsError."""
        self._counts = tuple(map(asdict, counts))
        self._graph, self._weights = files.taken_apart(first, _weights(first))
        other, _ = files.taken_apart(second, _weights(second))
        metadata.describe(self._graph, {})
        if _form(self._graph) != _form(other):
            raise UnlikeGraphsError("graphs of two structures do not have the same nodes")
        ones, others = ([number.value for number in _numbers(graph)] for graph in (self._graph, other))
        if len(ones) != len(others):
            raise UnlikeGraphsError("graphs of two structures do not hold as many numbers")
        pairs = enumerate(zip(ones, others, strict=True))
        self._grown_by = {index: self._unit(one, another) for index, (one, another) in pairs if one != another}

    def graph(self, counts: Counts) -> tuple[bytes, dict[str, Any]]:
        """The serialised graph of a model with `counts`, and its weights as OrtValues, by name."""
        import onnxruntime

        shell, shapes = self._at(counts)
        arrays = {name: np.resize(array, shapes[name]) for name, array in self._weights.items()}
        weights = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}
        return shell.SerializeToString(), weights

    def size(self, counts: Counts) -> float:
        """MB (10⁶ bytes) of the file of a model with `counts`."""
        shell, shapes = self._at(counts)
        weights = sum(math.prod(shapes[name]) * array.itemsize for name, array in self._weights.items())
        return float(shell.ByteSize() + weights) / 1e6

    def _unit(self, one: int, two: int) -> str:
        """The field of Counts that a number grows with from the first graph to the second."""
        before, after = self._counts
        found = [name for name in before if one * after[name] == two * before[name]]
        if len(found) != 1:
            raise UnlikeGraphsError(f"a number of the graphs that is {one} and {two} grows with {found or 'nothing'}")
        return found[0]

    def _at(self, counts: Counts) -> tuple[Any, dict[str, tuple[int, ...]]]:
        """The graph without its weights, and the shapes of these."""
        import onnx

        shell = onnx.ModelProto()
        shell.CopyFrom(self._graph)
        for index, number in enumerate(_numbers(shell)):
            if unit := self._grown_by.get(index):
                # Blocks of weights count as whole ones.
                number.put(-(-number.value * asdict(counts)[unit] // self._counts[0][unit]))
        return shell, {entry.name: tuple(entry.dims) for entry in shell.graph.initializer}


def _weights(model: Any) -> set[str]:
    """The names of all that is no shape."""
    import onnx

    entries = model.model.graph.initializer
    return {entry.name for entry in entries if entry.dims and entry.data_type != onnx.TensorProto.INT64}


def _form(model: Any) -> list[tuple[str, list[str]]]:
    return [(node.op_type, [*node.input]) for node in model.graph.node]


def _numbers(model: Any) -> Iterator[_Number]:
    """All that may follow a structure, in an order that is the same for graphs of the same form."""
    graph = model.graph
    for node in graph.node:
        for attribute in sorted(node.attribute, key=lambda attribute: attribute.name):
            yield _Number(attribute.i, partial(setattr, attribute, "i"))
            yield from _of_list(attribute.ints)
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.HasField("dim_value"):
                yield _Number(dimension.dim_value, partial(setattr, dimension, "dim_value"))
    for entry in sorted(graph.initializer, key=lambda entry: entry.name):
        yield from _of_list(entry.dims)
        yield from _of_content(entry)


def _of_list(numbers: Any) -> Iterator[_Number]:
    for index, value in enumerate(numbers):
        yield _Number(value, partial(numbers.__setitem__, index))


def _of_content(entry: Any) -> Iterator[_Number]:
    """The whole numbers in a small tensor, a shape say."""
    import onnx

    if entry.data_type != onnx.TensorProto.INT64 or not entry.raw_data:
        return
    content = np.frombuffer(entry.raw_data, np.int64).copy()

    def put(index: int, new: int) -> None:
        content[index] = new
        entry.raw_data = content.tobytes()

    for index, value in enumerate(content):
        yield _Number(int(value), partial(put, index))
