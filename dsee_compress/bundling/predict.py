"""Answer texts with the model in this folder; numpy, onnxruntime and tokenizers are all that it needs.

    echo "a text" | python predict.py
    python predict.py FILE.txt --output answers.jsonl

Each line that goes in gives one line of JSON, in the same order: an answer, or what is wrong with the line.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

try:
    if TYPE_CHECKING or __package__:
        from ..runtime.answers import LineError, Model, Texts, load
        from ..runtime.usage import UsageError, first_line, shown
    else:  # in a bundle, whatever Python was told of its folder
        sys.path.insert(0, str(Path(__file__).resolve().parent))
        from answers import LineError, Model, Texts, load
        from usage import UsageError, first_line, shown
except ImportError as missing:
    print(f"error: {missing.name} is not installed; pip install -r requirements.txt", file=sys.stderr)
    sys.exit(2)

FILE_BATCH = 8
LONGEST_LINE = 1_000_000
"""Bytes; a longer line is an error for itself."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_plain(line: str, columns: list[str]) -> Texts:
    """The text of a plain line, or the two of a pair that a tab separates."""
    if not line.strip():
        raise LineError("it is empty")
    if len(columns) == 1:
        return (line,)
    texts = tuple(line.split("\t"))
    if len(texts) != len(columns):
        raise LineError(f"a pair is two texts with one tab between them, and there are {len(texts) - 1} tabs")
    return texts


def read_json(line: str, columns: list[str]) -> Texts:
    """The text columns of a line of JSON."""
    if not line.strip():
        raise LineError("it is empty")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LineError(f"it is not JSON: {first_line(error)}") from error
    if not isinstance(row, dict):
        raise LineError("it is not a JSON object")
    return tuple(_text(row, column) for column in columns)


def _text(row: dict[str, Any], column: str) -> str:
    if column not in row:
        raise LineError(f"it has no column {column!r}")
    text = row[column]
    if not isinstance(text, str):
        raise LineError(f"column {column!r} holds no text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise LineError(f"column {column!r} holds half of a surrogate pair, which is no character") from error
    return text


def read_lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of a stream; of one that is too long its beginning alone, so that it fills no memory."""
    most = LONGEST_LINE + 1
    while line := stream.readline(most):
        rest = line
        while len(rest) == most and not rest.endswith(b"\n"):
            rest = stream.readline(most)
        yield line


READERS: dict[str, Callable[[str, list[str]], Texts]] = {".txt": read_plain, ".jsonl": read_json}


def answers(
    model: Model, lines: Iterable[bytes], read: Callable[[str, list[str]], Texts], batch: int
) -> Iterator[list[dict[str, Any]]]:
    """One answer or `error` a line, in batches of as many lines, in their order."""
    numbered = enumerate(lines, start=1)
    while some := list(itertools.islice(numbered, batch)):
        rows = []
        errors: dict[int, str] = {}
        for number, line in some:
            try:
                rows.append(model.encode(read(_decode(line, number), model.bundle["text"])))
            except LineError as error:
                errors[number] = f"line {number}: {error}"
        found = iter(model.answer(rows) if rows else [])
        yield [{"error": errors[number]} if number in errors else next(found) for number, _ in some]


def _decode(line: bytes, number: int) -> str:
    if number == 1 and line.startswith(BYTE_ORDER_MARK):
        line = line[len(BYTE_ORDER_MARK) :]
    line = line.rstrip(b"\r\n")
    if len(line) >= LONGEST_LINE:
        raise LineError(f"it is longer than {LONGEST_LINE:,} bytes; cut it")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise LineError(f"it is not UTF-8: {error.reason} at byte {error.start + 1}") from error


def write(batches: Iterable[list[dict[str, Any]]], output: Path) -> str:
    """Write the answers to `output`, as a whole or not at all; returns how many there are."""
    partial = output.with_name(f".{output.name}.partial")
    counts = {"answers": 0, "errors": 0}
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            for batch in batches:
                for answer in batch:
                    counts["errors" if "error" in answer else "answers"] += 1
                    file.write(json.dumps(answer) + "\n")
        partial.replace(output)
    finally:
        if partial.exists():
            partial.unlink()
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def print_answers(batches: Iterable[list[dict[str, Any]]]) -> None:
    """Print each batch as soon as it is there."""
    for batch in batches:
        for answer in batch:
            print(json.dumps(answer))
        sys.stdout.flush()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see python {self.prog} --help")


def _whole(most: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not value.isdecimal() or not 1 <= int(value) <= most:
            raise argparse.ArgumentTypeError(f"{value!r} is not a whole number from 1 to {most}")
        return int(value)

    return parse


def _arguments() -> argparse.Namespace:
    parser = _Parser(
        description="Answer texts with the model in this folder, one line of JSON a line.", allow_abbrev=False
    )
    parser.add_argument("file", nargs="?", type=Path, help=".txt or .jsonl; standard input, as .txt, if not given")
    parser.add_argument("--output", type=Path, help="file to write instead of standard output")
    parser.add_argument(
        "--batch",
        type=_whole(1_000_000),
        help=f"lines a call of the model ({FILE_BATCH}; of standard input 1, answered at once)",
    )
    parser.add_argument("--threads", type=_whole(os.cpu_count() or 1), help="threads of a call (all cores)")
    return parser.parse_args()


def _run(arguments: argparse.Namespace) -> None:
    file: Path | None = arguments.file
    output: Path | None = arguments.output
    suffix = ".txt" if file is None else file.suffix.lower()
    if suffix not in READERS:
        raise UsageError(f"{file} is neither .txt, with a text a line, nor .jsonl")
    if file is not None and not file.is_file():
        raise UsageError(f"there is no file {file}")
    if output is not None:
        if not output.parent.is_dir():
            raise UsageError(f"there is no folder {output.parent} for the output")
        if output.exists() and not output.is_file():
            raise UsageError(f"the output {output} is no file that could be replaced; give another")
        if file is not None and output.resolve() == file.resolve():
            raise UsageError(f"the output {output} is the input; give another file")
    for stream, unused in ((sys.stdin, file), (sys.stdout, output)):
        if stream is None and unused is None:
            raise UsageError("standard input or output is closed; give a file and --output")
    model = load(Path(__file__).resolve().parent, arguments.threads)
    with sys.stdin.buffer if file is None else file.open("rb") as stream:
        batch = arguments.batch or (1 if file is None else FILE_BATCH)
        batches = answers(model, read_lines(stream), READERS[suffix], batch)
        if output is None:
            print_answers(batches)
        else:
            print(f"{write(batches, output)}; wrote {shown(output)}", file=sys.stderr)


def _leave_stdout() -> None:
    """Let what could not be printed go nowhere, instead of being tried, and failing, again at the end."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> int:
    """Run with the shell's arguments; returns 0, or 2 for a mistake in what was asked for."""
    try:
        _run(_arguments())
    except BrokenPipeError:  # who reads the answers has enough of them, `head` say
        _leave_stdout()
    except (UsageError, OSError) as error:
        print(f"error: {shown(error)}", file=sys.stderr)
        _leave_stdout()
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
