"""Data folders: valid ones in many forms, which must be read right, and damaged ones, which an independent reader
(json, csv and pyarrow, used by hand) says what is in."""

import csv
import gzip
import io
import json
import math
import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from dsee_compress.store.manifest import Manifest

from . import damage
from .base import FINETUNE, Base
from .case import ACCEPTED, REFUSED, Case, in_child

Row = dict[str, Any]
WORDS = ("film", "story", "lovely", "dull", "the", "was", "a", "town", "warm", "cold")
SPICE = (
    *("a, b", 'say "so"', "two\nlines", "a\r\nb", "tab\there", "'", "1.0", "01", "NA", "null", "None", "2024-01-01"),
    *("1e5", "", " ", " spaces ", "😀", "中文 日本語", "e\u0301", "\u202e", "\ufeff", "<b>", "[bold]", "\\n", "#", "%"),
    *("TRUE", "a;b", "\u2028", "\x85", "\x0b\x0c", "long " * 200, "=1+1", "\\", "{", "[CLS] x [SEP]", "\x7f"),
    *("\u00a0",),
)
LABELS = (
    *(("bad", "good"), ("01", "1"), ("TRUE", "FALSE"), ("None", "null"), ("2024-01-01", "2024-01-02"), ("a,b", 'a"b')),
    *(("1.10", "1.1"), ("é", "e"), ("1e5", "100000"), (" x", "x"), ("nan", "inf"), ("<b>", "[b]"), ("x" * 300, "y")),
    *(("-1", "1"),),
)
INT_LABELS = ((0, 1), (1, 2), (-1, 1), (10, 9))


def make(draw: random.Random, base: Base, folder: Path) -> Case:
    """A fine-tuning on data of some form, whole or damaged."""
    form = draw.choice([".jsonl", ".csv", ".parquet"])
    names = draw.choice(LABELS + INT_LABELS * (form != ".csv"))
    splits = {split: _rows(draw, names, count) for split, count in (("train", draw.randint(9, 20)), ("validation", 5))}
    data = folder / "data"
    data.mkdir()
    whole = draw.random() < 0.4
    change = draw.choice([*(WAYS if whole else DAMAGES)[form]])
    in_child(partial(_write, draw, data, form, splits, change if whole else ""), folder, folder.parent / "log")
    if not whole:
        split = draw.choice(["train", "train", "validation"])
        change = f"{split}: {DAMAGES[form][change](draw, data / f'{split}{form}') or change}"
    model = str(base.model("bert"))
    arguments = ["finetune", "--model", model, "--data", "data", "--output", "out", *FINETUNE]
    name = change.split(": ", 1)[-1]
    may = ACCEPTED if whole else REFUSED if name in NEVER_RIGHT else frozenset({0, 2})
    return Case(f"{form[1:]}, labels {names!r:.40}: {change}", arguments, may=may, checks=[_read])


def _rows(draw: random.Random, names: tuple[Any, ...], count: int) -> list[Row]:
    rows = []
    for index in range(count):
        parts = draw.choices(WORDS, k=draw.randint(1, 5))
        if draw.random() < 0.5:
            parts.insert(draw.randrange(len(parts) + 1), draw.choice(SPICE))
        rows.append({"text": " ".join(parts), "label": names[index % 2]})
    return rows


def _write(draw: random.Random, data: Path, form: str, splits: dict[str, list[Row]], way: str) -> None:
    for split, rows in splits.items():
        path = data / f"{split}{form}"
        if form == ".parquet":
            _write_parquet(path, rows, way)
            continue
        content = _as_csv(rows, way) if form == ".csv" else _as_jsonl(draw, rows, way)
        path.write_bytes(
            (b"\xef\xbb\xbf" if way == "byte order mark" else b"") + content.encode("utf-8", "surrogatepass")
        )


def _as_csv(rows: list[Row], way: str) -> str:
    columns = ["label", "text"] if way == "other order" else ["text", "label"] + ["id"] * (way == "another column")
    file = io.StringIO()
    quoting = csv.QUOTE_ALL if way == "quotes" else csv.QUOTE_MINIMAL
    writer = csv.writer(file, quoting=quoting, lineterminator="\r\n" if way == "CRLF" else "\n")
    writer.writerow(columns)
    for number, row in enumerate(rows):
        writer.writerow([row.get(column, number) for column in columns])
        if way == "empty lines" and number % 3 == 0:
            file.write("\n")
    text = file.getvalue()
    return text.rstrip("\n") if way == "no last line's end" and not text.endswith('"\n') else text


def _as_jsonl(draw: random.Random, rows: list[Row], way: str) -> str:
    end = "\r\n" if way == "CRLF" else "\n"
    lines = []
    for number, row in enumerate(rows):
        shown = row | {"id": number, "more": {"a": [None]}} if way == "another column" else row
        shown = dict(reversed(shown.items())) if way == "other order" else shown
        spaces = (", ", ": ") if way != "no spaces" else (",", ":")
        lines.append(json.dumps(shown, ensure_ascii=way == "escapes", separators=spaces))
        lines += [""] * (way == "empty lines" and number % 3 == 0)
    text = end.join(lines)
    return text if way == "no last line's end" else text + end


def _write_parquet(path: Path, rows: list[Row], way: str) -> None:
    import pyarrow
    from pyarrow import parquet

    texts: Any = pyarrow.array([row["text"] for row in rows])
    labels: Any = pyarrow.array([row["label"] for row in rows])
    if way == "large strings":
        texts = texts.cast(pyarrow.large_string())
    if way == "dictionaries":
        texts, labels = texts.dictionary_encode(), labels.dictionary_encode()
    if way == "small integers" and pyarrow.types.is_integer(labels.type):
        labels = labels.cast(pyarrow.int8())
    columns = {"text": texts, "label": labels}
    if way == "another column":
        columns["more"] = pyarrow.array([{"a": [index]} for index in range(len(rows))])
    compression = "zstd" if way == "zstd" else "snappy"
    groups = 3 if way == "row groups" else None
    parquet.write_table(pyarrow.table(columns), path, compression=compression, row_group_size=groups)


_LINES = ("plain", "byte order mark", "CRLF", "empty lines", "no last line's end", "another column", "other order")
WAYS: dict[str, tuple[str, ...]] = {
    ".jsonl": (*_LINES, "escapes", "no spaces"),
    ".csv": (*_LINES, "quotes"),
    ".parquet": ("plain", "large strings", "dictionaries", "small integers", "another column", "zstd", "row groups"),
}

Damage = Callable[[random.Random, Path], str | None]


def _line(*others: str) -> Damage:
    """Another line in the place of one."""

    def put(draw: random.Random, path: Path) -> None:
        lines = path.read_text(encoding="utf-8", errors="surrogatepass").split("\n")
        lines[draw.randrange(path.suffix == ".csv", len(lines))] = draw.choice(others)
        path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")

    return put


def _recode(encoding: str) -> Damage:
    def put(draw: random.Random, path: Path) -> None:
        text = path.read_text(encoding="utf-8", errors="replace").replace("film", "fïlm") + "\n"
        path.write_bytes(text.encode(encoding, "replace"))

    return put


def _field(column: str, *others: Any) -> Damage:
    """Another value in one row, or in all."""

    def put(draw: random.Random, path: Path) -> str:
        value, every = draw.choice(others), draw.random() < 0.3
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        for row in rows if every else [draw.choice(rows)]:
            row[column] = value
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return f"{column} {value!r:.40} in {'every row' if every else 'one row'}"

    return put


def _arrow(column: str, kind: str) -> Damage:
    """A parquet column of another type."""

    def put(draw: random.Random, path: Path) -> None:
        in_child(partial(_retype, path, column, kind), path.parent, path.parents[2] / "log")

    return put


def _retype(path: Path, column: str, kind: str) -> None:
    import pyarrow
    from pyarrow import parquet

    table = parquet.read_table(path, use_threads=False)
    count = len(table)
    made: dict[str, Callable[[], Any]] = {
        "nulls": lambda: pyarrow.array([None if index == 1 else "x" for index in range(count)]),
        "all null": lambda: pyarrow.nulls(count),
        "lists": lambda: pyarrow.array([["x"]] * count),
        "bytes": lambda: pyarrow.array([b"\xff"] * count),
        "floats": lambda: pyarrow.array([float(index % 2) for index in range(count)]),
        "fractions": lambda: pyarrow.array([index / 3 for index in range(count)]),
        "booleans": lambda: pyarrow.array([index % 2 == 0 for index in range(count)]),
        "dates": lambda: pyarrow.array([index % 2 for index in range(count)], pyarrow.int32()).cast(pyarrow.date32()),
        "decimals": lambda: pyarrow.array([index % 2 for index in range(count)]).cast(pyarrow.decimal128(21, 2)),
    }
    values = made[kind]() if kind != "bytes" or column == "text" else pyarrow.array([b"a", b"b"] * count)[:count]
    parquet.write_table(table.set_column(table.column_names.index(column), column, values), path)


def _beside(draw: random.Random, path: Path) -> None:
    other = path.with_suffix(draw.choice([suffix for suffix in WAYS if suffix != path.suffix]))
    other.write_text("text,label\na,b\n")


def _rename(name: str) -> Damage:
    def put(draw: random.Random, path: Path) -> None:
        path.rename(path.with_name(name.format(stem=path.stem, suffix=path.suffix)))

    return put


def _bytes(draw: random.Random, path: Path) -> str:
    return damage.damage_bytes(draw, path).split(": ")[1]


def _file(draw: random.Random, path: Path) -> str:
    return damage.damage_file(draw, path).split(": ")[1]


def _pipe(draw: random.Random, path: Path) -> None:
    """Nobody writes to it: who opens it waits for ever."""
    path.unlink()
    os.mkfifo(path)


def _write_bytes(content: Callable[[bytes], bytes]) -> Damage:
    def put(draw: random.Random, path: Path) -> None:
        path.write_bytes(content(path.read_bytes()))

    return put


_ANY: dict[str, Damage] = {
    "bytes": _bytes,
    "more bytes": _bytes,
    "file": _file,
    "a pipe": _pipe,
    "two files": _beside,
    "another name": _rename("{stem}.json"),
    "upper case": _rename("{stem}.JSONL"),
    "gzip": _write_bytes(gzip.compress),
}
_OF_LINES: dict[str, Damage] = {
    "Latin-1": _recode("latin-1"),
    "UTF-16": _recode("utf-16"),
    "a NUL": _line("a\0b,bad", '{"text": "a\0b", "label": "bad"}'),
    "no rows": _write_bytes(lambda content: b"text,label\n"),
    "empty lines alone": _write_bytes(lambda content: b"\n\n\n"),
    "half a character": _write_bytes(lambda content: content.rstrip() + b"\xf0\x9f"),
}
DAMAGES: dict[str, dict[str, Damage]] = {
    ".jsonl": _ANY
    | _OF_LINES
    | {
        "no object": _line("null", "[]", "5", '"x"', "true", "{}", "NaN", "[" * 5000, '{"a":' * 5000),
        "no JSON": _line(
            "{", "{'text': 'a'}", "text,label", '{"text": "a", "label": "bad"},', "// x", '{"text": "a"} {"text": "b"}'
        ),
        "a key twice": _line(
            '{"text": "a", "text": "b", "label": "bad"}', '{"text": "a", "label": "bad", "label": "good"}'
        ),
        "half a surrogate pair": _line('{"text": "\\ud83d", "label": "bad"}', '{"text": "a", "label": "\\ud83d"}'),
        "digits": _line('{"text": "a", "label": ' + "9" * 5000 + "}", '{"text": ' + "9" * 5000 + ', "label": "bad"}'),
        "an odd text": _field("text", None, 5, True, 1.5, [], ["a"], {"a": 1}, {}),
        "an odd label": _field(
            "label", None, True, 1.5, 1.0, "", " ", [], ["bad"], {}, 10**30, -1, float("nan"), "new"
        ),
        "a pretty file": lambda draw, path: (
            path.write_text(json.dumps([{"text": "a", "label": "b"}], indent=1)) and None
        ),
    },
    ".csv": _ANY
    | _OF_LINES
    | {
        "an unquoted comma": _line("a, b, c,bad", "a,bad,", ",,,"),
        "a field less": _line("a", "a film"),
        "an open quote": _line('"a,bad', 'a "b" c",bad', '"a" b,bad', '"a\\"b",bad'),
        "a column twice": _write_bytes(lambda content: content.replace(b"text,label", b"text,text", 1)),
        "another header": _write_bytes(lambda content: content.replace(b"text,label", b"texts,labels", 1)),
        "no header": _write_bytes(lambda content: content.split(b"\n", 1)[1]),
        "semicolons": _write_bytes(lambda content: content.replace(b",", b";")),
        "tabs": _write_bytes(lambda content: content.replace(b",", b"\t")),
        "CR alone": _write_bytes(lambda content: content.replace(b"\n", b"\r")),
        "no label": _line("a film,", '"",""'),
    },
    ".parquet": _ANY
    | {
        f"{column} of {kind}": _arrow(column, kind)
        for column in ("text", "label")
        for kind in ("nulls", "all null", "lists", "bytes", "floats", "fractions", "booleans", "dates", "decimals")
    },
}
NEVER_RIGHT = {
    *("empty", "zeros", "random bytes", "missing", "a folder", "a link to nothing", "a link to itself", "a pipe"),
    *("two files", "another name", "upper case", "gzip", "UTF-16", "no rows", "empty lines alone", "half a character"),
    *("no JSON", "a key twice", "digits", "half a surrogate pair", "a column twice", "another header", "semicolons"),
    *("tabs", "a pretty file"),
    *(
        f"text of {kind}"
        for kind in ("nulls", "all null", "lists", "bytes", "floats", "fractions", "booleans", "dates")
    ),
    *(f"label of {kind}" for kind in ("nulls", "all null", "lists", "fractions")),
}


def truth(path: Path) -> list[Row]:
    """The rows of a file as Python's own readers give them."""
    if path.suffix == ".parquet":
        from pyarrow import parquet

        rows: list[Row] = parquet.read_table(path, use_threads=False).to_pylist()
        return rows
    text = path.read_bytes().decode("utf-8-sig")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    header, *records = csv.reader(io.StringIO(text, newline=""), strict=True)
    return [dict(zip(header, record, strict=True)) for record in records if record]


def _read(folder: Path) -> str:
    """What was trained on, as far as it is not what is in the files."""
    from transformers import AutoTokenizer

    from dsee_compress import tasks

    manifest = Manifest.read(folder / "out")
    tokenizer = AutoTokenizer.from_pretrained(folder / "out")
    train: list[Row] = []
    for split in ("validation", "train"):
        rows = list(tasks.encode(manifest.task, split, tokenizer))
        (path,) = (folder / "data").glob(f"{split}.*")
        train = truth(path)
        if len(rows) != len(train):
            return f"{len(rows)} rows of {split}, and the file has {len(train)}"
        for number, (row, wanted) in enumerate(zip(rows, train, strict=True)):
            if not isinstance(wanted["text"], str) or wanted["label"] in (None, ""):
                return f"row {number} of {split} lacks a text or a label: {wanted!r:.80}"
            tokens = tokenizer(wanted["text"], truncation=True, max_length=manifest.task.max_length)["input_ids"]
            if list(row["input_ids"]) != tokens:
                return f"row {number} of {split}: the text {wanted['text']!r:.80} was read as {row['input_ids']}"
            if not _is_called(manifest.task.labels[row["labels"]], wanted["label"]):
                return (
                    f"row {number} of {split}: the label {wanted['label']!r} is {manifest.task.labels[row['labels']]!r}"
                )
    steps = manifest.metrics.training.steps
    if steps != math.ceil(len(train) / 8):
        return f"{steps} steps of 8 over {len(train)} rows"
    if len({*manifest.task.labels}) != len({str(row["label"]) for row in train}):
        return f"{len(manifest.task.labels)} classes"
    return ""


def _is_called(name: str, label: Any) -> bool:
    """Whether a class may be called so: a text is its own name, a whole number that of the integer."""
    if isinstance(label, bool):
        return name.lower() == str(label).lower()
    if isinstance(label, bytes):
        return name == label.decode()
    return name in (str(label), str(int(label))) if isinstance(label, float) else name == str(label)
