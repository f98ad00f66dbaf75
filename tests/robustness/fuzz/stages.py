"""Stage folders that were damaged or edited by hand, and each command that reads them."""

import json
import random
from collections.abc import Callable
from pathlib import Path

from dsee_compress.store.manifest import Manifest

from . import base as bases
from . import damage
from .base import Base
from .case import REFUSED, Case

MUST_BE_WHOLE = (".safetensors", ".onnx")
READERS: dict[str, tuple[str, ...]] = {
    "tuned": ("prune", "export", "inspect", "validate", "export-peft"),
    "pruned": ("export", "export", "validate", "inspect"),
    "exported": ("validate", "benchmark", "bundle", "inspect"),
    "measured": ("report", "report", "validate", "benchmark"),
    "writer": ("generate", "bundle"),
    "lora": ("import-peft",),
    "run": ("run", "report"),
}
OF_NO_READER = {
    "inspect": {"adapter.safetensors", "base.safetensors", "model.safetensors", "model.onnx"},
    "report": {"model.onnx"},
}
"""Files that a command lists or leaves alone, and does not open."""


def make(draw: random.Random, base: Base, folder: Path) -> Case:
    """A damaged folder, and a command that reads it."""
    kind = draw.choice([*READERS])
    command = draw.choice(READERS[kind])
    given = damage.copy_folder(getattr(base, kind), folder / "given")
    files = sorted(path for path in given.rglob("*") if path.is_file())
    manifest = draw.choice([path for path in files if path.name in ("dsee.json", "adapter_config.json")])
    documents = [path for path in files if path.suffix == ".json"]
    changes: dict[str, Callable[[], str]] = {
        "manifest": lambda: damage.change_json(draw, manifest),
        "any JSON": lambda: damage.change_json(draw, draw.choice(documents)),
        "bytes": lambda: _bytes(draw, draw.choice(files)),
        "file": lambda: damage.damage_file(draw, draw.choice(files)),
    }
    name = draw.choice(["manifest", "manifest", "manifest", "any JSON", "any JSON", "bytes", "file"])
    about = changes[name]()
    arguments, output = _command(command, base)
    damaged = about.split(": ")[0]
    unread = damaged in OF_NO_READER.get(command, ())
    whole = not damaged.endswith(MUST_BE_WHOLE) or unread or about.endswith("something behind")
    may = frozenset({0, 2, 3}) if whole else REFUSED
    case = Case(f"{command} of {kind}: {about}", arguments, output, may=may, checks=[_labels])
    case.goes_on = command == "run"
    return case


def _bytes(draw: random.Random, path: Path) -> str:
    """Flipped bits where a reader of text may find them; those of weights are weights, too."""
    return damage.damage_bytes(draw, path, flips=not path.name.endswith(MUST_BE_WHOLE))


def _command(command: str, base: Base) -> tuple[list[str], str | None]:
    more = {
        "prune": [*bases.PRUNE, "--output", "out"],
        "export": ["--precision", "fp32", "--output", "out"],
        "bundle": ["--output", "out"],
        "export-peft": ["--output", "out"],
        "import-peft": [
            "--model",
            str(base.model("bert")),
            "--data",
            str(base.data),
            "--max-length",
            "32",
            "--output",
            "out",
        ],
        "validate": ["--max-compression-drop", "1"],
        "benchmark": bases.BENCHMARK,
        "generate": ["--prompt", "name : Aromi", "--max-new-tokens", "4"],
    }
    if command == "run":
        return [command, str(base.recipe), "--output", "given"], None
    arguments = [command, "given", *more.get(command, [])]
    return arguments, "out" if "out" in arguments else None


def _labels(folder: Path) -> str:
    """What was made of a damaged folder describes itself, and has as many labels as the model has."""

    if not (folder / "out" / "dsee.json").is_file():
        return ""
    manifest = Manifest.read(folder / "out")
    config = folder / "out" / "config.json"
    if manifest.task.name == "classification" and config.is_file():
        names = [*json.loads(config.read_text())["id2label"].values()]
        if names != manifest.task.labels:
            return f"the manifest has the labels {manifest.task.labels!r:.80}, and the model {names!r:.80}"
    return ""
