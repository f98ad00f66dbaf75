"""Stage folders: described by `dsee.json`, traced by fingerprint, and the state from which training goes on.

Training keeps that in `.NAME.checkpoints` beside its output NAME; it is gone when NAME appears. The next run of the
same command goes on from what a killed one left of it.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Set
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from . import distributed, loading, tasks
from .configs import BundleConfig, ExportConfig, FinetuneConfig, PruneConfig
from .digests import digest, sha256
from .errors import UserError, first_line
from .progress import tell
from .store import contents as contents_of_stages
from .store import folders, mark, results, watch
from .store.folders import MANIFEST as MANIFEST
from .store.folders import fsync as fsync
from .store.folders import write_json as write_json
from .store.folders import write_text as write_text
from .store.folders import writing as writing
from .strict import StrictConfig
from .tasks import Spec
from .weights import load_tensors, load_weights, save_tensors

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel

SCHEMA = 1
Stage = Literal["finetune", "prune", "export", "bundle"]
OPTIONS: dict[Stage, type[StrictConfig]] = {
    "finetune": FinetuneConfig,
    "prune": PruneConfig,
    "export": ExportConfig,
    "bundle": BundleConfig,
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
    task: Spec
    structure: Structure
    parent: Parent | None
    inputs: dict[str, str]
    """SHA-256 of what came from outside: the model, the data."""
    versions: dict[str, str]
    seed: int
    metrics: dict[str, Any]
    files: list[str] | None = None
    """Names of what the stage wrote beside this; None in folders of before it was listed."""


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
        if folders.beside(folder, "replaced").is_dir():
            raise UserError(f"{folder} was being replaced when that was killed; run the command that writes it again")
        raise UserError(f"there is no folder {folder}; give the output of an earlier stage")
    if not path.is_file():
        raise UserError(f"{folder} is not a stage folder: it has no {MANIFEST}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["schema"]
        if version > SCHEMA:
            raise UserError(
                f"{path} has schema {version}, and this version of dsee-compress reads up to {SCHEMA}; upgrade it"
            )
        manifest = Manifest.model_validate(content)
        contents_of_stages.check(manifest.stage, manifest.config, manifest.metrics)
        contents_of_stages.check_structure(manifest.structure.heads, manifest.structure.neurons)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is damaged; write the folder again") from error
    if stages and manifest.stage not in stages:
        raise UserError(f"{folder} is the output of {manifest.stage}; this needs that of {' or '.join(stages)}")
    return manifest


def parent_of(folder: Path, manifest: Manifest) -> Path | None:
    """The folder that `folder` was made from, if it is still there and unchanged; the running stage watches it."""
    if manifest.parent is None:
        return None
    path = Path(os.path.normpath(folder.resolve() / manifest.parent.path))
    watch.also(path)
    if not (path / MANIFEST).is_file() or fingerprint(path) != manifest.parent.fingerprint:
        return None
    return path


def link_parent(folder: Path, output: Path) -> Parent:
    """The reference to `folder` that goes into the manifest of `output`; UserError if that is or holds `folder`."""
    if folder.resolve().is_relative_to(output.resolve()):
        raise UserError(f"the output {output} would take the place of {folder}, which it is made from; choose another")
    relative = os.path.relpath(folder.resolve(), output.resolve())
    return Parent(path=relative, fingerprint=fingerprint(folder))


def contents(folder: Path) -> list[Path]:
    """The files that a folder's stage wrote, but for its manifest: not what was measured, or put there, later."""
    names = folders.listed(folder)
    if names is None:
        names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    return [path for name in sorted(names - {MANIFEST, *folders.RESULTS}) if (path := folder / name).is_file()]


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
    last step left beside it, and the state of an earlier training that is to be made anew.
    """
    folders.restore(output)
    require_own(output, stage)
    if overwrite:
        discard_resumable(output)
    if overwrite or not output.exists():
        return False
    there = read(output)
    was = dict(there.inputs, **({"parent": there.parent.fingerprint} if there.parent else {}))
    options = _defaults(stage, config.keys() - there.config.keys()) | there.config
    differences = [
        f"{name} was {before.get(name)!r} and is now {now.get(name)!r}"
        for before, now in ((options, config), (was, identity))
        for name in sorted({*before, *now})
        if json.dumps(before.get(name)) != json.dumps(now.get(name))  # the order of patterns counts
    ]
    if differences:
        raise UserError(f"{output} was made otherwise ({'; '.join(differences)}); use --overwrite to replace it")
    discard_resumable(output)
    return True


def _defaults(stage: Stage, names: Set[str]) -> dict[str, Any]:
    """What options stand at that the version which wrote a folder did not know."""
    fields = OPTIONS[stage].model_fields
    return {name: fields[name].get_default() for name in names if name in fields}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `dsee.json` into `folder`, last of all: it lists what is there."""
    files = sorted(path.name for path in folder.iterdir())
    write_json(folder / MANIFEST, manifest.model_copy(update={"files": files}).model_dump(mode="json", by_alias=True))


def has_result(path: Path, key: dict[str, Any]) -> bool:
    """Whether `path` holds a whole result that was made with the same `key`."""
    with contextlib.suppress(OSError, ValueError):
        return bool(results.read(path)["key"] == key)
    return False


@distributed.in_main
def remembered(path: Path, make: Callable[[], dict[str, "Tensor"]]) -> dict[str, "Tensor"]:
    """The tensors in `path`, or those that `make` returns, which are then written there, whole or not at all.

    Where `path` is damaged, its whole folder is made anew. Of many processes, the first makes and writes for all.
    """
    folder = path.parent
    if path.is_file():
        try:
            mark.read(folder)
        except ValueError as error:
            tell(f"{folder / str(error)} is damaged; this part starts anew")
            shutil.rmtree(folder)
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        save_tensors(make(), partial)
        fsync(partial)
        mark.write(folder, {path.name: sha256(partial)})
        partial.replace(path)
    return load_tensors(path)


def resumable(output: Path, key: dict[str, Any]) -> Path:
    """The folder for training's checkpoints; emptied unless as many processes with the same `key` left them."""
    count = distributed.processes()
    return _resumable(output, key if count == 1 else {**key, "processes": count})


@distributed.in_main
def _resumable(output: Path, key: dict[str, Any]) -> Path:
    folder = folders.beside(output, "checkpoints")
    key_file = folder / "key.json"
    with contextlib.suppress(OSError, ValueError, RecursionError):
        if json.dumps(json.loads(key_file.read_text())) == json.dumps(key):
            return folder
    if folder.is_dir():
        tell(
            f"{folder} is damaged, or of a training with other options; training starts anew",
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_json(key_file, key)
    return folder


@distributed.in_main
def discard_resumable(output: Path) -> None:
    """Remove training's checkpoints after `output` was written."""
    shutil.rmtree(folders.beside(output, "checkpoints"), ignore_errors=True)


def model_config(folder: Path) -> "PretrainedConfig":
    """A stage folder's config.json; UserError if it is missing or damaged."""
    loading.require_no_code(folder, "no stage wrote it so; write the folder again")
    try:
        config = loading.config_of(folder)
        if not isinstance(config.vocab_size, int):
            raise TypeError("vocab_size")
        return config
    except Exception as error:  # transformers raises what a damaged entry happens to cause
        raise UserError(f"{folder}/config.json is missing or damaged; write the folder again") from error


def build(folder: Path) -> "PreTrainedModel":
    """A model with the layout of `folder`'s config.json, unpruned, its weights not yet loaded.

    Raises UserError if no model can be built by it, or dsee.json tells of heads or neurons that it does not have.
    """
    from . import architectures

    described, config = read(folder), model_config(folder)
    try:
        architectures.give_head(config, tasks.of(described.task).head)
        model = architectures.from_config(config)
    except UserError:
        raise
    except Exception as error:  # whatever a number that is none, too large or zero leads to
        raise UserError(f"{folder}/config.json is of no model ({first_line(error)}); write the folder again") from error
    structure, layers = described.structure, architectures.layers(model)
    if len(structure.heads) != len(layers) or any(
        max(heads, default=-1) >= layer.heads or max(neurons, default=-1) >= layer.neurons
        for layer, heads, neurons in zip(layers, structure.heads, structure.neurons, strict=False)
    ):
        raise UserError(f"{folder}: {MANIFEST} and config.json are of different models; write the folder again")
    return model


def load(folder: Path) -> "PreTrainedModel":
    """The model of a `prune` folder: every layer with its own number of heads and neurons, in eval mode."""
    from . import architectures

    manifest = read(folder, "prune")
    model = build(folder)
    architectures.resize(model, manifest.structure.head_counts, manifest.structure.neuron_counts)
    load_weights(model, load_tensors(folder / "model.safetensors"), folder / "model.safetensors")
    return model.eval()
