"""Local jsonl, csv and parquet as they stand: nothing is guessed, converted, cached or held in memory."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, Protocol

from ..errors import UserError, first_line

SAMPLE = 100
"""First rows of a split that say which columns it has."""
_BATCH = 1000
_LONGEST_CELL = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands: `train.csv, line 7`, counted from 1; `train.parquet, row 6`, counted from 0."""

    where: str
    unit: str
    number: int

    def __str__(self) -> str:
        return f"{self.where}, {self.unit} {self.number}"


Row = tuple[Place, tuple[Any, ...]]
"""Where a row stands, and its values."""


class Table(Protocol):
    """The rows of a split, read anew at each pass."""

    columns: list[str]
    untyped: bool
    """Whether all values are texts, those of numbers too."""

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """The values of these columns, None where a row has none; UserError for a row that cannot be read."""

    def class_names(self, column: str) -> list[str] | None:
        """The names of a column's numbers, or of those in its lists, where the set says what they mean."""


def read(paths: Sequence[Path]) -> Table:
    """The table in a file, or in several, one after the other.

    UserError for a file that is damaged, or has no rows or a column twice.
    """
    tables = [READERS[path.suffix](path) for path in paths]
    for path, table in zip(paths, tables, strict=True):
        if next(table.rows(table.columns[:1]), None) is None:
            raise UserError(f"{path} has no rows")
    return tables[0] if len(tables) == 1 else _Parts(tables)


class _Jsonl:
    """An object a line, in UTF-8; empty lines are passed over."""

    untyped = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self.columns = list(dict.fromkeys(name for _, row in islice(self._objects(), SAMPLE) for name in row))
        for name in self.columns:
            if not is_text(name):
                _refuse(path, f"a column is called {name!r}, which is no text: half a character stands in it")

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        for number, row in self._objects():
            yield Place(self._path.name, "line", number), tuple(row.get(name) for name in columns)

    def class_names(self, column: str) -> None:
        return None

    def _objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in _lines(self._path):
            if line and not line.isspace():
                yield number, self._object(number, line)

    def _object(self, number: int, line: str) -> dict[str, Any]:
        try:
            row = json.loads(line, object_pairs_hook=_without_doubles)
        except _DoubleKeyError as error:
            _refuse(self._path, f"line {number} names {error.args[0]!r} twice")
        except json.JSONDecodeError as error:
            _refuse(
                self._path, f"line {number} is not JSON ({error.msg}, column {error.colno}); write an object a line"
            )
        except RecursionError:
            _refuse(self._path, f"line {number} is nested too deeply")
        except ValueError as error:  # an integer of thousands of digits
            _refuse(self._path, f"line {number} is not JSON ({first_line(error)})")
        if not isinstance(row, dict):
            _refuse(self._path, f"line {number} is {_shown(row)}, not an object; write an object a line")
        return row


class _Csv:
    """RFC 4180 with a header, in UTF-8: a cell is its text; empty lines are passed over."""

    untyped = True

    def __init__(self, path: Path) -> None:
        self._path = path
        _, self._header = next(self._records(), (0, []))
        if not self._header:
            raise UserError(f"{path} has no rows")
        self.columns = [name for name in self._header if name]  # pandas writes its index under an empty name
        if len(self._header) == 1 and any(other in self._header[0] for other in ";\t"):
            _refuse(path, f"its header is one column, {self._header[0]!r}; separate columns by commas")
        _require_distinct(path, self.columns)

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        wanted = [self._header.index(name) for name in columns]
        for number, fields in islice(self._records(), 1, None):
            if len(fields) != len(self._header):
                _refuse(
                    self._path,
                    f"line {number} has {len(fields)} fields and the header {len(self._header)}; "
                    "put a text with commas into double quotes",
                )
            yield Place(self._path.name, "line", number), tuple(fields[index] for index in wanted)

    def class_names(self, column: str) -> None:
        return None

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """The fields of each record and the line at which it begins."""
        csv.field_size_limit(_LONGEST_CELL)
        reader = csv.reader(self._text(), strict=True)
        while True:
            first = reader.line_num + 1
            try:
                fields = next(reader, None)
            except csv.Error as error:
                _refuse(self._path, f"the record at line {first}: {error}")
            if fields is None:
                return
            if fields:
                yield first, fields

    def _text(self) -> Iterator[str]:
        for number, line in _lines(self._path):
            if "\0" in line:
                _refuse(self._path, f"line {number} holds a NUL, which is no text")
            yield line


class _Parquet:
    """Columns as parquet has them; the metadata of `datasets` says which numbers are classes."""

    untyped = False

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._opened() as file:
            self._metadata = file.schema_arrow.metadata or {}
            self.columns = file.schema_arrow.names
        _require_distinct(path, self.columns)

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        number = 0
        with self._opened() as file:
            batches = file.iter_batches(_BATCH, columns=list(dict.fromkeys(columns)))
            while values := self._next(batches, columns):
                for row in zip(*values, strict=True):
                    yield Place(self._path.name, "row", number), row
                    number += 1

    def class_names(self, column: str) -> list[str] | None:
        try:
            features = json.loads(self._metadata.get(b"huggingface", b"{}"))["info"]["features"]
            return list(features[column].get("feature", features[column])["names"])
        except (AttributeError, KeyError, TypeError, ValueError):
            return None

    def _opened(self) -> Any:
        import pyarrow
        import pyarrow.parquet

        try:
            return pyarrow.parquet.ParquetFile(pyarrow.OSFile(str(self._path)))
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            _refuse(self._path, first_line(error))

    def _next(self, batches: Iterator[Any], columns: Sequence[str]) -> list[list[Any]]:
        import pyarrow

        try:
            batch = next(batches, None)
            return [] if batch is None else [batch.column(name).to_pylist() for name in columns]
        except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
            _refuse(self._path, first_line(error))


class _Parts:
    """Several files with the same columns, one after the other."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self._tables = tables
        self.untyped = tables[0].untyped
        self.columns = [name for name in tables[0].columns if all(name in table.columns for table in tables)]

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        for table in self._tables:
            yield from table.rows(columns)

    def class_names(self, column: str) -> list[str] | None:
        return self._tables[0].class_names(column)


READERS: dict[str, Callable[[Path], Table]] = {".jsonl": _Jsonl, ".csv": _Csv, ".parquet": _Parquet}


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8: JSON may escape half of a character, a lone surrogate."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class _DoubleKeyError(Exception):
    """An object names this key twice."""


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise _DoubleKeyError(next(name for name in names if names.count(name) > 1))
    return row


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file in UTF-8 with their ends, numbered from 1; a byte order mark is passed over."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    byte = error.object[error.start]
                    _refuse(path, f"line {number} is not UTF-8 (byte 0x{byte:02x}); save the file as UTF-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def _require_distinct(path: Path, columns: list[str]) -> None:
    for name in columns:
        if columns.count(name) > 1:
            _refuse(path, f"two columns are called {name!r}")


def _refuse(path: Path, why: str) -> NoReturn:
    raise UserError(f"{path} cannot be read as {path.suffix[1:]}: {why}")


def _shown(value: Any) -> str:
    """A JSON value that is no object, in a few words."""
    if isinstance(value, list | str):
        return "a list" if isinstance(value, list) else "a text"
    return "a number" if isinstance(value, int | float) and not isinstance(value, bool) else json.dumps(value)
