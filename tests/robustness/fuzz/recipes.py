"""Recipes whose text or values were changed, and settings; all with --dry-run, so that nothing is trained."""

import contextlib
import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from .base import Base
from .case import ACCEPTED, REFUSED, Case
from .damage import STRANGE_TEXTS
from .options import agrees

SECTIONS = ("finetune", "prune", "export", "validate", "benchmark")
VALUES = (
    *("1", "2", "4", "16", "0.5", "0.01", "true", "false", "x", "[2, 4]", "cpu", "fp32", "'16'") * 2,
    *("1e5", "1e-3", "0x10", "0o17", "017", "1_000", "1:30", "12:30:45", ".inf", "-.inf", ".nan", "yes", "no", "on"),
    *("true", "null", "~", "''", "' '", "[]", "{}", "[1, 2]", "[[1]]", "{a: 1}", "2024-01-01", "2024-13-45", "2:4"),
    *("1.", "-0", "8.0", "8.5", "1e400", "99999999999999999999", "9" * 4400, "'8'", "'1e3'", '"\\0"', '"\\ud800"'),
    *('"\\e[31m"', "!!python/name:os.system ''", "!!binary aGk=", "!!set {a, b}", "!!omap [a: 1]", "!!bool x"),
    *("!!int x", "!!float x", "!!str 8", "!!timestamp x", "!mine 8", "*nowhere", "&a [*a]", "|\n  text\n"),
    *(">-\n  text\n", "? x", "%", "@x", "`x`", "<<: *x", "{<<: {rank: 3}}", "a: b: c", "- 1", "[", "{", "'", '"'),
    *("# nothing", "x # y", "😀", "e\u0301"),
)


def make(draw: random.Random, base: Base, folder: Path) -> Case:
    """A recipe with something odd in it."""
    content: dict[str, dict[str, Any]] = {
        "finetune": {"model": str(base.model("bert")), "data": str(base.data), "rank": 2, "sparse": 8, "epochs": 1},
        "prune": {"heads": 0.25, "neurons": 0.25, "sequence_length": 32},
        "export": {"precision": ["fp32", "int8"]},
        "validate": {"max_drop": 0.5},
        "benchmark": {"batch": [1, 8], "sequence_length": [8, 16]},
    }
    text = yaml.safe_dump(content, sort_keys=False)
    name = draw.choice([*CHANGES, *OFTEN])
    made = CHANGES[name](draw, text)
    recipe = made.encode("utf-8", "surrogatepass") if isinstance(made, str) else made
    arguments = ["run", "recipe.yaml", "--output", "out", "--dry-run"]
    if draw.random() < 0.15:
        option = draw.choice(
            ["finetune.rank", "prune.heads", "benchmark.batch", "finetune", "x.y.z", "export.precision", "=", ""]
        )
        value = draw.choice([*VALUES, *STRANGE_TEXTS]).replace("\0", "")
        arguments += ["--set", f"{option}={value}"]
        name += f", --set {option}={value!r:.40}"
    (folder / "recipe.yaml").write_bytes(recipe)
    may = REFUSED if name in NEVER_RIGHT else ACCEPTED if name in ALWAYS_RIGHT else frozenset({0, 2})
    return Case(f"{name}: {_difference(text, recipe)}", arguments, may=may, checks=[partial(_read, arguments)])


def _difference(before: str, after: bytes) -> str:
    lines = {*before.splitlines()}
    new = [line for line in after.decode("utf-8", "replace").splitlines() if line not in lines]
    return repr(" / ".join(new))[:100]


def _value(draw: random.Random, text: str) -> str:
    """Another value of an option that is there."""
    lines = text.splitlines()
    places = [index for index, line in enumerate(lines) if ": " in line]
    index = draw.choice(places)
    lines[index] = lines[index].split(": ")[0] + ": " + draw.choice(VALUES)
    return "\n".join(lines) + "\n"


def _option(draw: random.Random, text: str) -> str:
    """One more option, of all that a section may have."""
    from dsee_compress.configs import RunConfig

    fields = {field.alias or name: field.annotation for name, field in RunConfig.model_fields.items()}
    section = draw.choice(SECTIONS)
    options: dict[str, Any] = getattr(fields[section], "model_fields", {})
    line = f"  {draw.choice([*options])}: {draw.choice(VALUES)}\n"
    return text.replace(f"{section}:\n", f"{section}:\n{line}")


def _letters(draw: random.Random, text: str) -> str:
    """Letters put in, or taken out."""
    for _ in range(draw.choice([1, 2, 5])):
        at = draw.randrange(len(text))
        text = (
            text[:at]
            + draw.choice([*":-[]{}&*!|>'\"%@`#?,\t\n\0\x1b\u2028é", "  ", "\n  "])
            + text[at + draw.choice([0, 1]) :]
        )
    return text


def _twice(draw: random.Random, text: str) -> str:
    """A line, with all that belongs to it, stands twice."""
    lines = text.splitlines(keepends=True)
    index = draw.choice([index for index, line in enumerate(lines) if line.startswith("  ") and ": " in line])
    return "".join([*lines[: index + 1], lines[index], *lines[index + 1 :]])


def _laughs(draw: random.Random, text: str) -> str:
    """A list of lists of lists, each by an alias."""
    lines = ["prune:", "  heads:", "  - &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"  - &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, draw.randint(3, 12))]
    return text.replace("prune:\n", "\n".join(lines) + "\nnot_prune:\n")


def _deep(draw: random.Random, text: str) -> str:
    depth = draw.choice([30, 500, 5000, 40_000])
    opening, closing = draw.choice(["[]", "{}"])
    inside = opening * depth + closing * depth if opening == "[" else "{a: " * depth + "1" + "}" * depth
    return text.replace("heads: 0.25", f"heads: {inside}")


CHANGES: dict[str, Callable[[random.Random, str], str | bytes]] = {
    "another value": _value,
    "one more option": _option,
    "another value or letter": lambda draw, text: _value(draw, _option(draw, text)),
    "other letters": _letters,
    "a key twice": _twice,
    "billion laughs": _laughs,
    "too deep": _deep,
    "cut": lambda draw, text: text[: draw.randrange(len(text))],
    "CRLF": lambda draw, text: text.replace("\n", "\r\n"),
    "byte order mark": lambda draw, text: "\ufeff" + text,
    "UTF-16": lambda draw, text: text.encode("utf-16"),
    "Latin-1": lambda draw, text: ("# é\n" + text).encode("latin-1"),
    "random bytes": lambda draw, text: draw.randbytes(200),
    "JSON": lambda draw, text: json.dumps(yaml.safe_load(text)),
    "two documents": lambda draw, text: f"{text}---\n{text}",
    "no map": lambda draw, text: draw.choice(
        ["", "- a\n", "text", "5", "null", "[]", "{1: 2}", "? [a]\n: b\n", "finetune\n"]
    ),
    "no section": lambda draw, text: text.replace(
        "prune:", draw.choice(["prun:", "1:", "null:", "? [x]\n:", "'':", "PRUNE:"])
    ),
    "a section of another type": lambda draw, text: f"finetune: {draw.choice(VALUES)}\n",
    "large": lambda draw, text: text + "# comment\n" * 20_000,
    "tabs": lambda draw, text: text.replace("  ", "\t"),
    "an anchor": lambda draw, text: text.replace("rank: 2", "rank: &r 2").replace("sparse: 8", "sparse: *r"),
}
OFTEN = ("another value", "one more option", "one more option", "other letters") * 3
NEVER_RIGHT = {
    *("a key twice", "billion laughs", "too deep", "UTF-16", "Latin-1", "random bytes", "two documents", "no map"),
}
ALWAYS_RIGHT = {"CRLF", "byte order mark", "JSON", "an anchor"}


def _read(arguments: list[str], folder: Path) -> str:
    """An option that is read otherwise than PyYAML reads it."""
    from dsee_compress.stages import run

    if "--set" in arguments:
        return ""
    text = (folder / "recipe.yaml").read_text(encoding="utf-8")
    config = run.read_recipe(folder / "recipe.yaml", []).model_dump(mode="json", by_alias=True)
    for section, options in (yaml.safe_load(text) or {}).items():
        for name, value in (options or {}).items():
            read = config[section][name]
            with contextlib.suppress(ValueError, TypeError):
                if agrees(value, read):
                    continue
            if name != "semi_structured":
                return f"{section}.{name}: {value!r} became {read!r}"
    return ""
