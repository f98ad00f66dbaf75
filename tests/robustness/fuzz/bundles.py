"""Bundles on a device: damaged ones, strange lines to answer, and what comes back from a device."""

import json
import math
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

from . import damage
from .base import Base
from .case import ACCEPTED, REFUSED, Case
from .damage import STRANGE_TEXTS

LINES: tuple[bytes, ...] = (
    *(
        b"a warm film",
        b"",
        b" ",
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbfx",
        "中文 😀".encode(),
        b"\xf0\x9f",
        b"word " * 3000,
    ),
    *(b"x" * 100_000, b"a\tb", b"\r", b"\x1b[31m", b"[CLS] [SEP] [PAD]", "\u2028".encode(), b"null", b'"', b"{}"),
    *(b"a\x0bb\x0cc", b"\x85"),
)
OBJECTS: tuple[bytes, ...] = (
    *(b'{"text": "a warm film"}', b'{"source": "name : Aromi"}', b"{}", b"[]", b"null", b"5", b'"x"', b"{", b"", b" "),
    *(b"NaN", b'{"text": null}', b'{"text": 5}', b'{"text": ["a"]}', b'{"text": ""}', b'{"text": "\\ud800"}'),
    *(b'{"text": "a", "text": "b"}', b'{"text": "\\u0000"}', b"[" * 100_000, b'{"text": "' + b"long " * 3000 + b'"}'),
    *(b"9" * 5000, b'{"text": "a"} x', b"\xff"),
)


def make(draw: random.Random, base: Base, folder: Path) -> Case:
    """One of what may happen on a device, or with what it sends back."""
    return draw.choice([_damaged, _damaged, _damaged, _asked, _asked, _asked, _measured, _sent_back])(
        draw, base, folder
    )


def _given(draw: random.Random, base: Base, folder: Path) -> Path:
    source = draw.choice([base.bundle, base.bundle, base.writer_bundle])
    return damage.copy_folder(source, folder / "given")


def _damaged(draw: random.Random, base: Base, folder: Path) -> Case:
    """A damaged bundle, asked for something simple."""
    given = _given(draw, base, folder)
    files = [given / name for name in ("bundle.json", "tokenizer.json", "model.onnx")]
    changes: dict[str, Callable[[], str]] = {
        "manifest": lambda: damage.change_json(draw, files[0]),
        "tokenizer": lambda: damage.change_json(draw, files[1]),
        "bytes": lambda: damage.damage_bytes(draw, (path := draw.choice(files)), flips=path.suffix == ".json"),
        "file": lambda: damage.damage_file(draw, draw.choice(files)),
    }
    name = draw.choice(["manifest", "manifest", "manifest", "tokenizer", "bytes", "file"])
    about = changes[name]()
    if draw.random() < 0.25:
        return _program(
            "bench.py", ["--samples", "10", "--warmup", "0", "--sequence-length", "8", "--threads", "1"], about
        )
    never = about.startswith("model.onnx") and not about.endswith("something behind")
    case = _program("predict.py", [], about, b"a warm film\nname : Aromi\n")
    case.may = REFUSED if never else case.may
    case.checks = [partial(_sound, case.stdin)]
    return case


def _asked(draw: random.Random, base: Base, folder: Path) -> Case:
    """Strange lines, which must not keep others from their answers."""
    _given(draw, base, folder)
    form = draw.choice(["stdin", ".txt", ".jsonl"])
    lines = draw.choices(OBJECTS if form == ".jsonl" else LINES, k=draw.randint(1, 12))
    content = b"\n".join(lines) + draw.choice([b"\n", b"", b"\n\n"])
    arguments = [] if form == "stdin" else [f"lines{form}"]
    if arguments:
        (folder / arguments[0]).write_bytes(content)
    arguments += draw.choice([[], [], ["--batch", "3"], ["--threads", "1"]])
    case = _program("predict.py", arguments, f"{len(lines)} lines, {form}", content if form == "stdin" else b"")
    case.may = ACCEPTED
    case.checks = [partial(_sound, content)]
    return case


def _measured(draw: random.Random, base: Base, folder: Path) -> Case:
    """Programs with strange arguments."""
    _given(draw, base, folder)
    program = draw.choice(["predict.py", "bench.py"])
    (folder / "mine").mkdir()
    (folder / "lines.txt").write_text("a warm film\n")
    option = draw.choice(
        ["--batch", "--threads", "--output", "--sequence-length", "--samples", "--warmup", "--new-tokens", "", "-x"]
    )
    value = draw.choice(["0", "-1", "mine", "lines.txt", "nowhere/x", "given", "2000000", *STRANGE_TEXTS])
    arguments = [*([option] if option else []), value]
    if program == "bench.py":
        arguments = ["--samples", "10", "--warmup", "0", "--sequence-length", "8", "--threads", "1", *arguments]
    return _program(program, arguments, f"{option} {value!r:.60}", b"a warm film\n")


def _sent_back(draw: random.Random, base: Base, folder: Path) -> Case:
    """A latency.json that was changed on its way, and a report that shall show it."""
    damage.copy_folder(base.measured, folder / "given")
    path = folder / "latency.json"
    path.write_bytes(base.latency.read_bytes())
    about = draw.choice([damage.change_json, damage.change_json, damage.damage_bytes, damage.damage_file])(draw, path)
    case = Case(f"report --add: {about}", ["report", "given", "--add", "latency.json"], None)
    case.checks = [_report_is_whole]
    return case


def _program(program: str, arguments: list[str], about: str, stdin: bytes = b"") -> Case:
    return Case(f"{program}: {about}", arguments, None, frozenset({0, 2}), program=Path("given") / program, stdin=stdin)


def _sound(given: bytes, folder: Path) -> str:
    """Where predict.py gave no answer, or one that is none, to a line."""
    printed = (folder.parent / "log" / "stdout").read_bytes().splitlines()
    lines = given.split(b"\n")
    wanted = len(lines) - (lines[-1] == b"")
    if len(printed) != wanted:
        return f"{len(printed)} answers to {wanted} lines"
    for line in printed:
        answer = json.loads(line)
        if set(answer) not in ({"label", "score"}, {"text"}, {"error"}):
            return f"no answer: {line[:80]!r}"
        if "score" in answer and not (math.isfinite(answer["score"]) and 0 <= answer["score"] <= 1):
            return f"no probability: {line[:80]!r}"
    return ""


def _report_is_whole(folder: Path) -> str:
    """Where the report holds what a latency.json should not bring into it."""
    page = (folder / "given" / "report.html").read_text(encoding="utf-8")
    json.loads((folder / "given" / "report.json").read_text(), parse_constant=lambda name: 1 / 0)
    return "the script of a latency.json stands in the page" if "<script>alert(1)" in page else ""
