"""ONNX files as protobuf's wire format has them, weight by weight: no second copy of all weights is in memory.

protobuf itself reads and writes a message from and to one piece of memory.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

_BYTES = 2
"""The wire type of what has a length before it: texts, messages, weights."""
_SIZES = {1: 8, 5: 4}
"""Bytes of the numbers of two other wire types; the last, 0, are varints."""


def read(path: Path, *, weights: bool = True) -> Any:
    """The ModelProto in `path`; without the weights' numbers, or those of another file, if not `weights`.

    Raises what protobuf does for a file that is damaged.
    """
    import onnx

    model = onnx.ModelProto()
    graph = _number(model, "graph")
    with path.open("rb") as file:
        for number, start, end in _fields(file, 0, path.stat().st_size):
            if number == graph:
                _read_graph(file, _content(file, start, end), end, model.graph, weights)
            else:
                model.MergeFromString(_piece(file, start, end))
    if weights:
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
    return model


def inputs(path: Path) -> list[str]:
    """The names of what a graph has to be given."""
    graph = read(path, weights=False).graph
    weights = {entry.name for entry in graph.initializer}
    return [entry.name for entry in graph.input if entry.name not in weights]


def _read_graph(file: BinaryIO, start: int, end: int, graph: Any, weights: bool) -> None:
    import onnx

    initializer, raw = _number(graph, "initializer"), _number(onnx.TensorProto, "raw_data")
    rest = []
    for number, before, after in _fields(file, start, end):
        if number != initializer:
            rest.append(_piece(file, before, after))
            continue
        entry, content = graph.initializer.add(), _content(file, before, after)
        if weights:
            entry.MergeFromString(_piece(file, content, after))
            continue
        for field, first, last in _fields(file, content, after):
            if field != raw:
                entry.MergeFromString(_piece(file, first, last))
    graph.MergeFromString(b"".join(rest))


def write(model: Any, path: Path) -> None:
    """Write to `path` the bytes that `model.SerializeToString()`, of a ModelProto of less than 2 GB, would give."""
    graph = model.graph
    before, after = (_others(graph, "initializer", side) for side in (int.__lt__, int.__gt__))
    tag = _key(graph, "initializer")
    sizes = [entry.ByteSize() for entry in graph.initializer]
    length = len(before) + len(after) + sum(len(tag) + len(_varint(size)) + size for size in sizes)
    with path.open("wb") as file:
        file.write(_others(model, "graph", int.__lt__) + _key(model, "graph") + _varint(length) + before)
        for entry, size in zip(graph.initializer, sizes, strict=True):
            file.write(tag + _varint(size))
            file.write(entry.SerializeToString())
        file.write(after + _others(model, "graph", int.__gt__))


def copy(source: Any, target: Any, kept: Callable[[Any], bool]) -> None:
    """Set in a message each field of `source` whose descriptor is `kept`."""
    for field, value in source.ListFields():
        if not kept(field):
            continue
        if hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        elif field.message_type is not None:
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)


def _others(message: Any, name: str, side: Callable[[int, int], bool]) -> bytes:
    """The fields of a message on one side of `name`: protobuf writes them in the order of their numbers."""
    part = type(message)()
    copy(message, part, lambda field: side(field.number, _number(message, name)))
    content: bytes = part.SerializeToString()
    return content


def _number(message: Any, name: str) -> int:
    number: int = message.DESCRIPTOR.fields_by_name[name].number
    return number


def _key(message: Any, name: str) -> bytes:
    """What stands before a field's length."""
    return _varint(_number(message, name) << 3 | _BYTES)


def _varint(number: int) -> bytes:
    """A number in groups of seven bits, the lowest first; each but the last is marked."""
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def _fields(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field of the message between two places of a file."""
    while start < end:
        file.seek(start)
        key = _read_varint(file)
        kind = key & 7
        if kind == _BYTES:
            length = _read_varint(file)
            after = file.tell() + length
        elif kind == 0:
            _read_varint(file)
            after = file.tell()
        else:
            after = file.tell() + _SIZES.get(kind, end)
        yield key >> 3, start, min(after, end)
        start = after


def _read_varint(file: BinaryIO) -> int:
    number, shift = 0, 0
    while byte := file.read(1):
        number |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80:
            break
    return number


def _content(file: BinaryIO, start: int, end: int) -> int:
    """Where what a field holds begins, behind its key and its length."""
    file.seek(start)
    _read_varint(file)
    _read_varint(file)
    return min(file.tell(), end)


def _piece(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)
