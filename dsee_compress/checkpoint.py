"""Stage folders: written whole or not at all, described by `dsee.json`, traced by fingerprint.

While a stage runs it writes to `.NAME.partial` beside its output NAME; training keeps its resumable state in
`.NAME.checkpoints`. Both are gone when NAME appears. What a killed run left is removed, or resumed from, by
the next run of the same command.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from . import distributed, loading
from .configs import MetricName, StrictConfig, TaskName
from .errors import UserError
from .weights import load_tensors, load_weights, save_tensors

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel

SCHEMA = 1
MANIFEST = "dsee.json"
Stage = Literal["finetune", "prune", "export", "bundle"]
_RESULTS = {
    *("validation.json", "benchmark.json", "devices.json", "latency.json"),
    *("report.json", "report.md", "report.html"),
}
_LIBRARIES = (
    "dsee-compress",
    "torch",
    "transformers",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "optimum-onnx",
)


class Parent(StrictConfig):
    """The stage folder that a folder was made from."""

    path: str
    """Relative to the folder, so that a run can be moved as a whole."""
    fingerprint: str


class Task(StrictConfig):
    """What the model was trained for, and how its data is read."""

    name: TaskName = "classification"
    metric: MetricName = "accuracy"
    """What gates and intervals are about."""
    positive: str | None = None
    """The label that F1 is about, if there is one."""
    data: str
    text: list[str]
    label: str
    labels: list[str]
    """Names of the classes; none in regression and generation."""
    prompt: str | None = None
    """What stands before a target, with `{source}` in it; in generation alone."""
    max_length: int


class Structure(StrictConfig):
    """Indices of the heads and neurons that each layer keeps, counted in the unpruned model."""

    heads: list[list[int]]
    neurons: list[list[int]]

    @property
    def head_counts(self) -> list[int]:
        """Heads kept, a layer."""
        return [len(kept) for kept in self.heads]

    @property
    def neuron_counts(self) -> list[int]:
        """FFN neurons kept, a layer."""
        return [len(kept) for kept in self.neurons]


class Manifest(StrictConfig):
    """The content of `dsee.json`."""

    format: int = Field(SCHEMA, alias="schema")
    stage: Stage
    config: dict[str, Any]
    architecture: str
    base: str
    """The pretrained model, as the user named it."""
    task: Task
    structure: Structure
    parent: Parent | None
    inputs: dict[str, str]
    """SHA-256 of what came from outside: the model, the data."""
    versions: dict[str, str]
    seed: int
    metrics: dict[str, Any]


def child_of(parent: Manifest, link: Parent, **own: Any) -> Manifest:
    """The manifest of a folder made from `parent`'s: what both share, and what is its own."""
    return Manifest(
        architecture=parent.architecture,
        base=parent.base,
        task=parent.task,
        parent=link,
        versions=library_versions(),
        **own,
    )


def library_versions() -> dict[str, str]:
    """Versions of the installed libraries that a result depends on."""
    found = {}
    for name in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def read(folder: Path, *stages: Stage) -> Manifest:
    """Read `folder`'s manifest; UserError if it is missing, broken, newer, or of a stage not in `stages`."""
    path = folder / MANIFEST
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give the output of an earlier stage")
    if not path.is_file():
        raise UserError(f"{folder} is not a stage folder: it has no {MANIFEST}")
    try:
        content = json.loads(path.read_text())
        version = content["schema"]
        if version > SCHEMA:
            raise UserError(
                f"{path} has schema {version}, and this version of dsee-compress reads up to {SCHEMA}; upgrade it"
            )
        manifest = Manifest.model_validate(content)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise UserError(f"{path} is damaged; write the folder again") from error
    if stages and manifest.stage not in stages:
        raise UserError(f"{folder} is the output of {manifest.stage}; this needs that of {' or '.join(stages)}")
    return manifest


def parent_of(folder: Path, manifest: Manifest) -> Path | None:
    """The folder that `folder` was made from, if it is still there and unchanged."""
    if manifest.parent is None:
        return None
    path = Path(os.path.normpath(folder.resolve() / manifest.parent.path))
    if not (path / MANIFEST).is_file() or fingerprint(path) != manifest.parent.fingerprint:
        return None
    return path


def link_parent(folder: Path, output: Path) -> Parent:
    """The reference to `folder` that goes into the manifest of `output`; UserError if that is or holds `folder`."""
    if folder.resolve().is_relative_to(output.resolve()):
        raise UserError(f"the output {output} would take the place of {folder}, which it is made from; choose another")
    relative = os.path.relpath(folder.resolve(), output.resolve())
    return Parent(path=relative, fingerprint=fingerprint(folder))


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(files: list[Path]) -> str:
    """SHA-256 over the names and bytes of `files`, in the order of their names."""
    total = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.name):
        total.update(f"{path.name}\0{sha256(path)}\0".encode())
    return total.hexdigest()


def contents(folder: Path) -> list[Path]:
    """The files of a stage folder but for its manifest, and for what was measured of it later."""
    return [
        path
        for path in folder.iterdir()
        if path.is_file() and path.name not in {MANIFEST, *_RESULTS} and not path.name.startswith(".")
    ]


def fingerprint(folder: Path) -> str:
    """SHA-256 of a stage folder: its files and what its manifest says, but neither timings nor reports."""
    manifest = read(folder).model_dump(mode="json", include={"stage", "config", "architecture", "task", "structure"})
    described = json.dumps(manifest, sort_keys=True) + digest(contents(folder))
    return hashlib.sha256(described.encode()).hexdigest()


def require_own(output: Path, stage: Stage) -> None:
    """UserError if `output` holds anything but what this stage wrote, whole or damaged."""
    if not output.exists():
        return
    if not (output / MANIFEST).is_file():
        raise UserError(f"{output} already exists and is not a stage folder; choose another output")
    try:
        there = read(output)
    except UserError:
        return
    if there.stage != stage:
        raise UserError(f"{output} already holds the output of {there.stage}; choose another output")


@distributed.in_main
def up_to_date(output: Path, stage: Stage, config: dict[str, Any], identity: dict[str, str], overwrite: bool) -> bool:
    """Whether `output` already holds what this stage would write; never, if it is to be overwritten.

    `identity` maps each outside input, and `parent`, to its fingerprint. Raises UserError as `require_own`, even if
    it is to be overwritten, or, naming the difference, if `output` was made otherwise. Clears what a kill after the
    last step left beside it.
    """
    _restore(output)
    require_own(output, stage)
    if overwrite or not output.exists():
        return False
    there = read(output)
    was = dict(there.inputs, **({"parent": there.parent.fingerprint} if there.parent else {}))
    differences = [
        f"{name} was {before.get(name)!r} and is now {now.get(name)!r}"
        for before, now in ((there.config, config), (was, identity))
        for name in sorted({*before, *now})
        if json.dumps(before.get(name)) != json.dumps(now.get(name))  # the order of patterns counts
    ]
    if differences:
        raise UserError(f"{output} was made otherwise ({'; '.join(differences)}); use --overwrite to replace it")
    discard_resumable(output)
    return True


@contextlib.contextmanager
def writing(output: Path, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder beside `output` that takes its name, durably, if the block ends well.

    Of many processes, the first writes; the others get a folder that is thrown away, and wait for the first's.
    """
    if not distributed.is_main():
        with tempfile.TemporaryDirectory() as thrown_away:
            yield Path(thrown_away)
        distributed.wait()
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.parent / f".{output.name}.partial"
    replaced = _restore(output)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        for path in [*partial.iterdir(), partial]:
            fsync(path)
        if output.exists():
            if not overwrite:
                raise UserError(f"{output} appeared while it was being made; choose another output")
            output.rename(replaced)
        partial.rename(output)
        fsync(output.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(replaced, ignore_errors=True)
    distributed.wait()


def _restore(output: Path) -> Path:
    """Put back, or clear, what an overwriting run left when it was killed; returns where it puts the old folder."""
    replaced = output.parent / f".{output.name}.replaced"
    if replaced.exists() and not output.exists():
        replaced.rename(output)
    shutil.rmtree(replaced, ignore_errors=True)
    return replaced


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `dsee.json` into `folder`."""
    write_json(folder / MANIFEST, manifest.model_dump(mode="json", by_alias=True))


def write_json(path: Path, content: Any) -> None:
    """Write `content` to `path` as JSON."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as a whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    fsync(partial)
    partial.replace(path)


def has_result(path: Path, key: dict[str, Any]) -> bool:
    """Whether `path` holds a result that was made with the same `key`."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        return bool(json.loads(path.read_text())["key"] == key)
    return False


@distributed.in_main
def remembered(path: Path, make: Callable[[], dict[str, "Tensor"]]) -> dict[str, "Tensor"]:
    """The tensors in `path`, or those that `make` returns, which are then written there, whole or not at all.

    Of many processes, the first makes and writes them for all.
    """
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        save_tensors(make(), partial)
        fsync(partial)
        partial.replace(path)
    return load_tensors(path)


def resumable(output: Path, key: dict[str, Any]) -> Path:
    """The folder for training's checkpoints; emptied unless as many processes with the same `key` left them."""
    count = distributed.processes()
    return _resumable(output, key if count == 1 else {**key, "processes": count})


@distributed.in_main
def _resumable(output: Path, key: dict[str, Any]) -> Path:
    folder = output.parent / f".{output.name}.checkpoints"
    key_file = folder / "key.json"
    with contextlib.suppress(OSError, ValueError):
        if json.dumps(json.loads(key_file.read_text())) == json.dumps(key):
            return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_json(key_file, key)
    return folder


@distributed.in_main
def discard_resumable(output: Path) -> None:
    """Remove training's checkpoints after `output` was written."""
    shutil.rmtree(output.parent / f".{output.name}.checkpoints", ignore_errors=True)


def model_config(folder: Path) -> "PretrainedConfig":
    """A stage folder's config.json; UserError if it is missing or damaged."""
    loading.require_no_code(folder, "no stage wrote it so; write the folder again")
    try:
        return loading.config_of(folder)
    except Exception as error:  # transformers raises what a damaged entry happens to cause
        raise UserError(f"{folder}/config.json is missing or damaged; write the folder again") from error


def build(folder: Path) -> "PreTrainedModel":
    """A model with the layout of `folder`'s config.json, unpruned, its weights not yet loaded."""
    from . import architectures

    return architectures.from_config(model_config(folder))


def load(folder: Path) -> "PreTrainedModel":
    """The model of a `prune` folder: every layer with its own number of heads and neurons, in eval mode."""
    from . import architectures

    manifest = read(folder, "prune")
    model = build(folder)
    architectures.resize(model, manifest.structure.head_counts, manifest.structure.neuron_counts)
    load_weights(model, load_tensors(folder / "model.safetensors"), folder / "model.safetensors")
    return model.eval()


def fsync(path: Path) -> None:
    """Make a file's or a folder's content survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
