"""Commands with one or two options that no one means, and arguments that are no folders."""

import json
import os
import random
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from dsee_compress import configs
from dsee_compress.strict import StrictConfig

from . import base as bases
from .base import Base
from .case import Case
from .damage import STRANGE_TEXTS

CONFIGS: dict[str, type[StrictConfig]] = {
    "finetune": configs.FinetuneConfig,
    "prune": configs.PruneConfig,
    "export": configs.ExportConfig,
    "validate": configs.ValidateConfig,
    "benchmark": configs.BenchmarkConfig,
    "bundle": configs.BundleConfig,
    "generate": configs.GenerateConfig,
    "import-peft": configs.ImportPeftConfig,
}
WITHOUT_OPTIONS = ("inspect", "report", "export-peft")
WRITES_BESIDE = ("finetune", "prune", "export", "bundle", "import-peft", "export-peft")
_LEFT_OUT = {"model", "data", "device"}
"""Where only the first of two counts, or what is on this machine."""


def make(draw: random.Random, base: Base, folder: Path) -> Case:
    """A command with something odd in it."""
    command = draw.choice([*CONFIGS, *CONFIGS, *WITHOUT_OPTIONS])
    arguments = _valid(command, base, folder)
    if command in WRITES_BESIDE:
        arguments += ["--output", "out"]
    if command == "prune" and draw.random() < 0.5:  # other goals than heads and neurons
        arguments = arguments[:2] + arguments[6:]
    change = draw.choice(
        [_options, _options, _options, _arguments, _output, _shape] if command in CONFIGS else [_arguments, _shape]
    )
    about = change(draw, command, arguments, folder)
    output = "out" if command in WRITES_BESIDE and arguments.count("--output") == 1 and "out" in arguments else None
    return Case(f"{command}: {about}", arguments, output, checks=[partial(_read, command, arguments)])


def _valid(command: str, base: Base, folder: Path) -> list[str]:
    """A command that would do its work."""
    given = ["--model", str(base.model("bert")), "--data", str(base.data)]
    if command == "finetune":
        return [command, *given, *bases.FINETUNE]
    if command == "import-peft":
        return [command, str(base.lora), *given, "--max-length", "32"]
    source = {
        "prune": base.tuned,
        "export": base.pruned,
        "validate": base.exported,
        "benchmark": base.exported,
        "bundle": base.exported,
        "inspect": base.tuned,
        "report": base.measured,
        "export-peft": base.tuned,
    }.get(command)
    if command in ("validate", "benchmark", "report"):  # these write into the folder
        source = _link_free_copy(source or base.exported, folder / "given")
    more = {
        "prune": bases.PRUNE,
        "export": ["--precision", "fp32"],
        "validate": ["--max-compression-drop", "1"],
        "benchmark": bases.BENCHMARK,
        "generate": ["--prompt", "name : Aromi", "--max-new-tokens", "4"],
    }
    return [command, str(base.writer if command == "generate" else source), *more.get(command, [])]


def _link_free_copy(source: Path, target: Path) -> Path:
    import shutil

    return Path(shutil.copytree(source, target))


def _options(draw: random.Random, command: str, arguments: list[str], folder: Path) -> str:
    """One or two options with strange values, behind those that are there: the last counts."""
    fields = [*CONFIGS[command].model_fields]
    names = draw.sample(fields, k=min(draw.choice([1, 1, 2, 3]), len(fields)))
    told = []
    for name in names:
        field = CONFIGS[command].model_fields[name]
        value = draw.choice(
            [draw.choice(STRANGE_TEXTS), _beyond(draw, field), *[_sensible(draw, field.annotation)] * 3]
        )
        arguments += ["--" + name.replace("_", "-"), value]
        told.append(f"--{name} {value!r:.60}")
    return ", ".join(told)


def _beyond(draw: random.Random, field: Any) -> str:
    """A number just outside of what a field takes, or just inside at its lower end."""
    limits = {
        name: getattr(entry, name)
        for entry in field.metadata
        for name in ("ge", "gt", "le", "lt")
        if hasattr(entry, name)
    }
    near = [
        limits[name] + step for name, step in (("ge", -1), ("ge", 0), ("gt", 0), ("le", 1), ("lt", 0)) if name in limits
    ]
    return str(draw.choice(near or [draw.choice(STRANGE_TEXTS)]))


def _sensible(draw: random.Random, annotation: Any) -> str:
    """A value of an option's type that may well be meant, if not beside the others."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return str(draw.choice(parts))
    if origin is list:
        return ",".join(_sensible(draw, parts[0]) for _ in range(draw.choice([1, 2, 3])))
    if origin is dict:
        return draw.choice(["query=", "0.value=", "[01].query="]) + _sensible(draw, parts[1])
    if origin is Annotated:
        return _sensible(draw, parts[0])
    if parts:
        return _sensible(draw, draw.choice([part for part in parts if part is not type(None)]))
    if annotation is int:
        return str(draw.choice([0, 1, 2, 3, 4, 8, 16, 18, 20, 24, 32]))
    if annotation is float:
        return str(draw.choice([0.0, 0.01, 0.1, 0.25, 0.5, 0.9, 0.99, 1.0, 2.0]))
    return draw.choice(["text", "label", "good", "2:4", "1:2", "x86-vnni", "arm64", "cuda", "mobile", "{source}", "x"])


def _arguments(draw: random.Random, command: str, arguments: list[str], folder: Path) -> str:
    """Something that is not what the command reads."""
    (folder / "file.txt").write_text("mine")
    (folder / "empty").mkdir()
    (folder / "dangling").symlink_to("nowhere")
    (folder / "looping").symlink_to("looping")
    os.mkfifo(folder / "pipe")
    (folder / "dsee only").mkdir()
    (folder / "dsee only" / "dsee.json").write_text('{"schema": 1}')
    other = draw.choice(
        ["file.txt", "empty", "dangling", "looping", "pipe", "dsee only", "/", "/proc/self", *STRANGE_TEXTS]
    )
    place = arguments.index(draw.choice(["--model", "--data"])) + 1 if command == "finetune" else 1
    arguments[place] = other
    return f"reads {other!r:.60}"


def _output(draw: random.Random, command: str, arguments: list[str], folder: Path) -> str:
    """An output that cannot be, or is there."""
    if "--output" not in arguments:
        return _options(draw, command, arguments, folder)
    place = arguments.index("--output") + 1
    (folder / "file.txt").write_text("mine")
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.txt").write_text("mine")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "linked").symlink_to("mine")
    others = [
        "file.txt",
        "file.txt/out",
        "mine",
        "mine/",
        ".",
        "..",
        "",
        "/",
        "/dev/null",
        "/proc/out",
        "dangling",
        "linked",
    ]
    others += [
        "n" * 250,
        "n" * 300,
        "a\nb",
        "\x1b[31m",
        "a b",
        "-x",
        "mine/../mine",
        "new/..",
        arguments[1],
        f"{arguments[1]}/out",
    ]
    arguments[place] = draw.choice(others)
    if draw.random() < 0.4:
        arguments.append("--overwrite")
    return f"writes {arguments[place]!r:.60}{' over it' * ('--overwrite' in arguments)}"


def _shape(draw: random.Random, command: str, arguments: list[str], folder: Path) -> str:
    """A command line of another shape."""
    changes: dict[str, Callable[[], object]] = {
        "an unknown option": lambda: arguments.append(
            draw.choice(["--rnak", "--", "-", "-x", "--=", "--rank=", "---"])
        ),
        "one more argument": lambda: arguments.insert(2, draw.choice(STRANGE_TEXTS)),
        "one argument less": lambda: arguments.pop(draw.randrange(1, len(arguments))),
        "the last twice": lambda: arguments.append(arguments[-1]),
        "another order": lambda: draw.shuffle(arguments),
        "another command": lambda: arguments.__setitem__(0, draw.choice([*CONFIGS, "fine", "", "--help", "FINETUNE"])),
    }
    name = draw.choice([*changes])
    changes[name]()
    return name


def _read(command: str, arguments: list[str], folder: Path) -> str:
    """What a manifest's config says otherwise than the command line."""
    if command not in CONFIGS or arguments[0] != command or not (folder / "out" / "dsee.json").is_file():
        return ""
    config = json.loads((folder / "out" / "dsee.json").read_text())["config"]
    given = {name: value for name, value in pairwise(arguments) if name.startswith("--")}
    for name in CONFIGS[command].model_fields.keys() - _LEFT_OUT:
        value = given.get("--" + name.replace("_", "-"))
        if value is not None and name in config and not agrees(value, config[name]):
            return f"--{name} {value!r} became {config[name]!r}"
    return ""


def agrees(given: Any, read: Any) -> bool:
    """Whether an option's value is what was given for it, in a shell or in YAML."""
    if isinstance(given, bool) or given is None:
        return given is read
    if isinstance(read, bool) or isinstance(given, dict) or isinstance(read, dict):
        return isinstance(given, dict | str) and isinstance(read, dict)
    if isinstance(read, list):
        items = given if isinstance(given, list) else [given]
        texts = [part.strip() for item in items if isinstance(item, str) for part in item.split(",") if part.strip()]
        parts = texts or items
        return len(parts) == len(read) and all(map(agrees, parts, read))
    if isinstance(read, int | float):
        return float(given) == read
    return str(given) == read
