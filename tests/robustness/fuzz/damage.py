"""Small changes of valid things: of a JSON document, a text, a file's bytes, a folder."""

import copy
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEEP: list[Any] = []
for _ in range(200):
    DEEP = [DEEP]
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 3, 2**31, 2**63, 10**40, 0.5, -1e308, float("nan"), float("inf"), "", "x", "\0"),
    *("\x1b[31mred", "<script>alert(1)</script>", "[bold]", "../../etc/passwd", "\ud800", "9" * 5000, [], {}, [None]),
    *([[]], {"": ""}, {"a": {"b": None}}, [1, "two"], DEEP),
)
STRANGE_TEXTS = (
    *("", " ", "-", "--", "0", "-1", "1e5", "nan", "inf", "-inf", "1e308", "99999999999999999999", "0x10", "1_0", "٣"),
    *("½", "true", "None", "null", "~", "\x1b[31mred", "a" * 5000, "../..", "/", "/dev/null", "\udcff", "😀", "1,2"),
    *("[1]", "{a: 1}", "'", '"', "%s", "{0}", "2:4", "*", "(", "a=1", "=1", "a=", "a{99999999999}=2", "(a+)+$=3"),
    *("\n", "\t", "<b>", "[red]", "a b", "auto", "cpu", "fp32", "9" * 5000, "\u202etxt", "e\u0301", "C:\\x", "~"),
    *("file:///etc", "@x"),
)


def paths_of(document: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The keys that lead to each value of a JSON document, its whole left out."""
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    found = []
    for key, value in items:
        found += [(*prefix, key), *paths_of(value, (*prefix, key))]
    return found


def change(draw: random.Random, document: Any) -> tuple[Any, str]:
    """A copy of a JSON document with one value replaced, or left out, and what was done."""
    changed = copy.deepcopy(document)
    short = [path for path in paths_of(changed) if len(path) <= 2]
    path = draw.choice(short if short and draw.random() < 0.6 else paths_of(changed) or [()])
    if not path:
        return draw.choice(ODD_VALUES), "another document"
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    where = ".".join(map(str, path))
    if draw.random() < 0.2:
        del holder[path[-1]]
        return changed, f"without {where}"
    value = draw.choice(ODD_VALUES)
    if draw.random() < 0.3:
        value = draw.choice(
            [len(str(holder[path[-1]])), str(holder[path[-1]]), [holder[path[-1]]], {"x": holder[path[-1]]}]
        )
    holder[path[-1]] = value
    return changed, f"{where} = {_short(value)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else f"{text[:60]}…"


def change_json(draw: random.Random, path: Path) -> str:
    """Change one value in a JSON file."""
    document, what = change(draw, json.loads(path.read_text(encoding="utf-8")))
    path.write_text(json.dumps(document), encoding="utf-8")
    return f"{path.name}: {what}"


def _truncate(draw: random.Random, content: bytes) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _flip(draw: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 8])):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


BYTES: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "cut": _truncate,
    "empty": lambda draw, content: b"",
    "zeros": lambda draw, content: bytes(len(content)),
    "random bytes": lambda draw, content: draw.randbytes(min(len(content), 4096)),
    "something behind": lambda draw, content: content + draw.choice([b"\n", b"x", b"\0" * 8, b"}", b"null"]),
    "something before": lambda draw, content: draw.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"x", b"\0", b" "]) + content,
    "not JSON": lambda draw, content: draw.choice(
        [b"{", b"[]", b"null", b'"x"', b"NaN", b"[" * 100_000, b"\xff", b"1"]
    ),
}
FLIPS: dict[str, Callable[[random.Random, bytes], bytes]] = {"flipped bits": _flip}


def damage_bytes(draw: random.Random, path: Path, flips: bool = True) -> str:
    """Change a file's bytes; `flips`: bits in the middle, too, which no reader needs to find."""
    name, function = draw.choice([*(BYTES | (FLIPS if flips else {})).items()])
    content = path.read_bytes()
    path.write_bytes(function(draw, content or b"x"))
    return f"{path.name}: {name}"


def _remove(draw: random.Random, path: Path) -> None:
    path.unlink()


def _make_folder(draw: random.Random, path: Path) -> None:
    path.unlink()
    path.mkdir()


def _dangle(draw: random.Random, path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _loop(draw: random.Random, path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


FILES: dict[str, Callable[[random.Random, Path], None]] = {
    "missing": _remove,
    "a folder": _make_folder,
    "a link to nothing": _dangle,
    "a link to itself": _loop,
}


def damage_file(draw: random.Random, path: Path) -> str:
    """Put something else in a file's place."""
    name, function = draw.choice([*FILES.items()])
    function(draw, path)
    return f"{path.name}: {name}"


def copy_folder(source: Path, target: Path) -> Path:
    """A folder that may be damaged."""
    return Path(shutil.copytree(source, target))
