"""The stages as commands on small real models, and what is to be seen of their outputs.

Every command has two variants, 0 and 1, that write other content to the same place. It runs in a working folder beside
the folder `in` of its inputs.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsee_compress import digests

RESULTS = ("validation.json", "benchmark.json")
_TRAIN = {"epochs": 2, "batch-size": 16, "learning-rate": 0.01}
_RETUNE = {"retune-epochs": 2, "batch-size": 16, "learning-rate": 0.01}
_UPDATE = {"rank": 2, "sparse": 8, "max-length": 32}
_CUT = {"heads": 0.25, "neurons": 0.25, "sequence-length": 32}
_ALLOW = {"max-drop": 0.9, "max-compression-drop": 0.9}
_TIME = {"samples": 10, "rounds": 1, "warmup": 0, "sequence-length": 16, "threads": 1}
_TIMED = {
    *("seconds", "retune_seconds", "mean_ms", "stdev_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "throughput"),
    *("speedup", "cold_start_ms", "peak_rss_mb", "raw_ms"),
}

Content = Any
"""What a file or folder holds, but for measured times: JSON as it is, other files by their SHA-256."""
View = dict[str, Content]
"""What is there of a command's outputs, by path."""
Input = Callable[[str], Path]
"""Gives an input by its name."""


def _nothing(given: Input, work: Path, variant: int) -> None:
    """For commands that only read their inputs."""


def _copies(*names: str) -> Callable[[Input, Path, int], None]:
    """Copies inputs into the working folder, for commands that write into them."""

    def put(given: Input, work: Path, variant: int) -> None:
        for name in names:
            if not (work / name).exists():
                shutil.copytree(given(name), work / name)

    return put


def _measured(given: Input, work: Path, variant: int) -> None:
    """An export folder with the results that the variant of a report shows."""
    _copies(*_CHAIN)(given, work, variant)
    for name in RESULTS:
        shutil.copyfile(given(f"{name}.{variant}"), work / "exported0" / name)


@dataclass(frozen=True)
class Stage:
    """A command in its two variants, and what it writes."""

    name: str
    arguments: Callable[[int], list[str]]
    outputs: tuple[str, ...]
    """Files and folders that are each whole or not there."""
    put: Callable[[Input, Path, int], None] = field(default=_nothing)
    """Puts what a variant needs into the working folder."""
    needs: tuple[str, ...] = ()
    """Inputs that are made in the working folder, before anything is put there, with {} for the variant."""
    refuses: bool = True
    """Whether another content is refused without --overwrite."""
    skips: bool = True
    """Whether the same command ends well where its output is already there."""
    may_vanish: tuple[str, ...] = ()
    """Outputs that go while what they are of is replaced."""
    together: tuple[str, ...] = ()
    """Outputs that are always of one variant."""
    timed: tuple[str, ...] = ()
    """Ends of the names of outputs whose text shows measured times: only their last characters are looked at."""

    def view(self, work: Path) -> View:
        """What is there of the outputs; OSError or ValueError for what cannot be read."""
        return {name: self._content(work / name) for name in self.outputs if (work / name).exists()}

    def aside(self, work: Path, name: str) -> Content:
        """What an output holds that another one is about to replace; None if there is none."""
        path = (work / name).parent / f".{Path(name).name}.replaced"
        return self._content(path) if path.exists() else None

    def _content(self, path: Path) -> Content:
        if path.is_dir():
            inside = [file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")]
            return {file.name: _of_file(file) for file in sorted(inside) if file.name not in RESULTS}
        if path.name in self.timed:
            return path.read_text(encoding="utf-8")[-8:]
        return _of_file(path)


def _of_file(path: Path) -> Content:
    return _steady(json.loads(path.read_text(encoding="utf-8"))) if path.suffix == ".json" else digests.sha256(path)


def _steady(content: Any) -> Any:
    """JSON with its keys, without the values that are measured times."""
    if isinstance(content, dict):
        return {name: "measured" if name in _TIMED else _steady(value) for name, value in content.items()}
    return [_steady(value) for value in content] if isinstance(content, list) else content


def options(**values: Any) -> list[str]:
    """Options as words of a command line."""
    return [word for name, value in values.items() for word in (f"--{name}", str(value))]


def _finetune(variant: int) -> list[str]:
    training = options(model="../in/model", data="../in/data", **_TRAIN, **_UPDATE, seed=variant)
    return ["finetune", *training, "--output", "out"]


def _prune(variant: int, source: str = "tuned0") -> list[str]:
    return ["prune", f"../in/{source}", *options(**_CUT, **_RETUNE, seed=variant), "--output", "out"]


def _export(variant: int) -> list[str]:
    return ["export", f"../in/pruned{variant}", "--precision", "int8", "--output", "out"]


def _validate(variant: int) -> list[str]:
    return ["validate", "exported0", *options(**_ALLOW, seed=variant)]


def _benchmark(variant: int) -> list[str]:
    return ["benchmark", "exported0", *options(**_TIME, seed=variant)]


def _bundle(variant: int) -> list[str]:
    return ["bundle", f"../in/exported{variant}", "--output", "out"]


def _report(variant: int) -> list[str]:
    return ["report", "exported0"]


def _run(variant: int) -> list[str]:
    return ["run", "../in/recipe.yaml", "--output", "out", "--set", f"finetune.seed={variant}"]


def _import_peft(variant: int) -> list[str]:
    return ["import-peft", f"../in/peft{variant}", *options(model="../in/model", data="../in/data"), "--output", "out"]


def _export_peft(variant: int) -> list[str]:
    return ["export-peft", f"../in/bare{variant}", "--output", "out"]


def maker(name: str) -> list[str] | None:
    """The command that makes an input; None for what no command makes."""
    variant = int(name[-1]) if name[-1:].isdigit() else 0
    return {
        "tuned": _finetune(variant),
        "bare": [*_finetune(variant), "--sparse", "0"],
        "pruned": _prune(variant, f"tuned{variant}"),
        "exported": _export(variant),
        "peft": _export_peft(variant),
    }.get(name[:-1])


def recipe() -> dict[str, Any]:
    """The content of the recipe that `run` reads, in the folder of the inputs."""

    def section(*parts: dict[str, Any]) -> dict[str, Any]:
        return {name.replace("-", "_"): value for part in parts for name, value in part.items()}

    return {
        "finetune": {"model": "model", "data": "data", **section(_TRAIN, _UPDATE)},
        "prune": section(_CUT, _RETUNE),
        "export": {"precision": ["int8"]},
        "validate": section(_ALLOW),
        "benchmark": section(_TIME),
    }


_CHAIN = ("tuned0", "pruned0", "exported0")
_PAGES = ("report.json", "report.md", "report.html")
_FOLDERS = ("finetune", "dense", "prune", "export")
_OF_EXPORT = tuple(f"out/export/{name}" for name in RESULTS)
STAGES = {
    stage.name: stage
    for stage in (
        Stage("finetune", _finetune, ("out",)),
        Stage("prune", _prune, ("out",)),
        Stage("export", _export, ("out",)),
        Stage("validate", _validate, ("exported0", f"exported0/{RESULTS[0]}"), _copies(*_CHAIN), refuses=False),
        Stage("benchmark", _benchmark, ("exported0", f"exported0/{RESULTS[1]}"), _copies(*_CHAIN), refuses=False),
        Stage("bundle", _bundle, ("out", "out.zip"), may_vanish=("out.zip",), together=("out", "out.zip")),
        Stage(
            "report",
            _report,
            tuple(f"exported0/{name}" for name in _PAGES),
            _measured,
            needs=tuple(f"{name}.{{}}" for name in RESULTS),
            refuses=False,
        ),
        Stage(
            "run",
            _run,
            (*(f"out/{name}" for name in (*_FOLDERS, *_PAGES)), *_OF_EXPORT),
            may_vanish=_OF_EXPORT,
            timed=_PAGES[1:],
        ),
        Stage("import-peft", _import_peft, ("out",)),
        Stage("export-peft", _export_peft, ("out",), skips=False),
    )
}
