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
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

try:
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer
except ImportError as missing:
    print(f"error: {missing.name} is not installed; pip install -r requirements.txt", file=sys.stderr)
    sys.exit(2)

Texts = tuple[str, ...]
"""What one answer is about: one text, or the two of a pair."""
SCHEMA = 1
FILE_BATCH = 8
LONGEST_LINE = 1_000_000
"""Bytes; a longer line is an error for itself."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class UsageError(Exception):
    """A mistake in what was asked for, which ends the program: one sentence."""


class LineError(Exception):
    """What is wrong with one line; the others are answered."""


def _is_number(value: Any, least: int = 0) -> bool:
    return type(value) is int and least <= value < 2**31


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _is_padding(value: Any) -> bool:
    return isinstance(value, dict) and _is_number(value.get("id")) and _is_number(value.get("type_id"))


FIELDS: dict[str, Callable[[Any], bool]] = {
    "task": lambda value: value in ("classification", "regression", "generation"),
    "text": lambda value: _are_texts(value) and 1 <= len(value) <= 2,
    "labels": _are_texts,
    "inputs": _are_texts,
    "max_length": lambda value: _is_number(value, 1),
    "truncation_side": lambda value: value in ("left", "right"),
    "padding": lambda value: _is_padding(value) and value.get("side") in ("left", "right"),
    "onnxruntime": lambda value: isinstance(value, str) and re.match(r"\d{1,9}\.\d{1,9}", value) is not None,
}
"""What bundle.json holds, as far as it is needed here, and whether a value can be that."""
WRITING: dict[str, Callable[[Any], bool]] = {
    "prompt": lambda value: isinstance(value, str),
    "start": lambda value: isinstance(value, list) and all(map(_is_number, value)),
    "end": lambda value: value is None or _is_number(value),
    "max_new_tokens": lambda value: _is_number(value, 1),
    "longest_input": lambda value: _is_number(value, 1),
}
"""The same of a model that writes."""


class Model:
    """The tokenizer and the ONNX model of a bundle."""

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        """Load the bundle in `folder`; UsageError if a file is missing or damaged, or onnxruntime is too old."""
        self.bundle = read_bundle(folder)
        self._folder = folder
        if _release(onnxruntime.__version__) < _release(self.bundle["onnxruntime"]):
            raise UsageError(
                f"onnxruntime {onnxruntime.__version__} is too old for this model, which needs "
                f"{self.bundle['onnxruntime']}; pip install -r requirements.txt"
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or 0
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._tokenizer.no_padding()
            self._limit()
            self._session = onnxruntime.InferenceSession(
                str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # each library has its own
            raise damage(folder, first_line(error)) from error
        asked = {entry.name for entry in self._session.get_inputs()}
        if asked != {*self.bundle["inputs"]} or "logits" not in {entry.name for entry in self._session.get_outputs()}:
            raise damage(folder, "model.onnx is not the model that bundle.json describes")

    def _limit(self) -> None:
        """Have the tokenizer cut what is too long."""
        self._tokenizer.enable_truncation(
            self.bundle["max_length"], strategy="longest_first", direction=self.bundle["truncation_side"]
        )

    def encode(self, texts: Texts) -> Any:
        """One text or a pair as tokens, cut to the length that the model was trained with; not padded."""
        try:
            return self._tokenizer.encode(*texts)
        except Exception as error:  # tokenizers raises Exception itself
            raise LineError(f"the tokenizer cannot read it: {first_line(error)}") from error

    def run(self, outputs: list[str] | None, given: dict[str, Any]) -> list[Any]:
        """One call of the model; UsageError if it fails."""
        try:
            found: list[Any] = self._session.run(outputs, given)
        except Exception as error:  # its exceptions share no base class
            raise UsageError(
                f"the model in {self._folder} cannot be run ({first_line(error)}); copy the bundle again, or give a "
                "smaller --batch if the memory is too small"
            ) from error
        return found

    def pad(self, rows: list[Any]) -> dict[str, Any]:
        """The model's inputs, int64 arrays (rows, tokens), padded to the longest row."""
        padding = self.bundle["padding"]
        length = max(len(row) for row in rows)
        kinds = {
            "input_ids": ("ids", padding["id"]),
            "attention_mask": ("attention_mask", 0),
            "token_type_ids": ("type_ids", padding["type_id"]),
        }
        arrays = {}
        for name in self.bundle["inputs"]:
            attribute, filler = kinds[name]
            arrays[name] = np.full((len(rows), length), filler, np.int64)
            for array, row in zip(arrays[name], rows):
                start = length - len(row) if padding["side"] == "left" else 0
                array[start : start + len(row)] = getattr(row, attribute)
        return arrays

    def answer(self, rows: list[Any]) -> list[dict[str, Any]]:
        """The label and its probability for each encoded row; in regression the number alone."""
        if not rows:
            return []
        logits = self.run(["logits"], self.pad(rows))[0].astype(np.float64)
        if logits.shape != (len(rows), len(self.bundle["labels"]) or 1):
            raise damage(self._folder, "model.onnx has other labels than bundle.json")
        if self.bundle["task"] == "regression":
            return [{"score": float(row[0])} for row in logits]
        powers = np.exp(logits - logits.max(-1, keepdims=True))
        probabilities = powers / powers.sum(-1, keepdims=True)
        labels = self.bundle["labels"]
        return [{"label": labels[row.argmax()], "score": float(row.max())} for row in probabilities]


class Writer(Model):
    """A model that writes on from a prompt: at each step the token that it holds for the likeliest."""

    def _limit(self) -> None:
        """A prompt is read whole, or refused."""
        self._tokenizer.no_truncation()

    def encode(self, texts: Texts) -> list[int]:
        """The prompt of a text as tokens; LineError if it leaves no room for what is to be written."""
        prompt = self.bundle["prompt"].replace("{source}", texts[0])
        tokens = [*self.bundle["start"], *self._tokenizer.encode(prompt, add_special_tokens=False).ids]
        if len(tokens) >= self.bundle["longest_input"]:
            raise LineError(
                f"its prompt has {len(tokens)} tokens, and the model reads {self.bundle['longest_input']}, what it "
                "writes included"
            )
        return tokens

    def pad(self, rows: list[list[int]]) -> dict[str, Any]:
        """The first step's inputs, int64 arrays (rows, tokens), padded on the left to the longest row."""
        length = max(map(len, rows))
        mask = np.array([[0] * (length - len(row)) + [1] * len(row) for row in rows], np.int64)
        tokens = np.array([[self.bundle["padding"]["id"]] * (length - len(row)) + row for row in rows], np.int64)
        return {"input_ids": tokens, "attention_mask": mask, "position_ids": np.maximum(mask.cumsum(1) - 1, 0)}

    def answer(self, rows: list[list[int]]) -> list[dict[str, Any]]:
        """The text that is written to each prompt."""
        if not rows:
            return []
        return [{"text": self._tokenizer.decode(tokens).strip()} for tokens in self.write(rows)]

    def write(self, rows: list[list[int]]) -> list[list[int]]:
        """The tokens that follow each prompt, the one that ends a text left out."""
        inputs, end = self.pad(rows), self.bundle["end"]
        lengths, memory = np.array([len(row) for row in rows]), self._nothing(len(rows))
        written: list[list[int]] = [[] for _ in rows]
        going = np.ones(len(rows), bool)
        for step in range(self.bundle["max_new_tokens"]):
            going &= lengths + step < self.bundle["longest_input"]
            if not going.any():
                break
            logits, *present = self.run(None, {**inputs, **memory, "logits_to_keep": np.array([1], np.int64)})
            best = logits[:, -1].argmax(-1)
            going &= best != end
            for row in np.flatnonzero(going):
                written[row].append(int(best[row]))
            memory = dict(zip(memory, present))
            mask = np.pad(inputs["attention_mask"], ((0, 0), (0, 1)), constant_values=1)
            inputs = {
                "input_ids": best[:, None].astype(np.int64),
                "attention_mask": mask,
                # A text that has ended may stand at the last position for good.
                "position_ids": np.minimum(lengths + step, self.bundle["longest_input"] - 1)[:, None],
            }
        return written

    def _nothing(self, rows: int) -> dict[str, Any]:
        """What is remembered before the first step: of each layer no keys and no values."""
        kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        entries = [entry for entry in self._session.get_inputs() if entry.name.startswith("past_key_values.")]
        return {entry.name: np.zeros((rows, entry.shape[1], 0, entry.shape[3]), kinds[entry.type]) for entry in entries}


def load(folder: Path, threads: int | None = None) -> Model:
    """The model of the bundle in `folder`, as its task needs it; UsageError as for Model."""
    return (Writer if read_bundle(folder)["task"] == "generation" else Model)(folder, threads)


def read_bundle(folder: Path) -> dict[str, Any]:
    """The content of bundle.json; UsageError if it is missing or damaged, or of another schema."""
    try:
        bundle: dict[str, Any] = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise damage(folder, first_line(error)) from error
    if not isinstance(bundle, dict) or not _is_number(bundle.get("schema")):
        raise damage(folder, "bundle.json has no 'schema'")
    if bundle["schema"] != SCHEMA:
        raise UsageError(
            f"{folder / 'bundle.json'} has schema {bundle['schema']}, and this predict.py reads {SCHEMA}; use that of "
            "the same bundle"
        )
    for name, fits in {**FIELDS, **(WRITING if bundle.get("task") == "generation" else {})}.items():
        if name not in bundle or not fits(bundle[name]):
            raise damage(folder, f"bundle.json has {'a wrong' if name in bundle else 'no'} {name!r}")
    return bundle


def damage(folder: Path, what: str) -> UsageError:
    """The error that says what is wrong with the bundle in `folder`."""
    return UsageError(f"the bundle in {folder} is damaged ({what}); copy it again")


def _release(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")[:2]))


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
        found = iter(model.answer(rows))
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


def shown(text: object) -> str:
    """`text` with what is no visible character written as an escape: a name is no command to the terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in str(text)
    )


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its name if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


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
