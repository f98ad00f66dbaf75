"""Which stage folder was made from which, traced by fingerprints."""

import hashlib
import json
import os
from pathlib import Path

from ..digests import digest
from ..errors import UserError
from . import folders, watch
from .folders import MANIFEST
from .manifest import Manifest, Parent


def contents(folder: Path) -> list[Path]:
    """The files that a folder's stage wrote, but for its manifest: not what was measured, or put there, later."""
    names = folders.listed(folder)
    if names is None:
        names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    return [path for name in sorted(names - {MANIFEST, *folders.RESULTS}) if (path := folder / name).is_file()]


def fingerprint(folder: Path) -> str:
    """SHA-256 of a stage folder: its files and what its manifest says, but neither timings nor reports."""
    told = {"stage", "config", "architecture", "task", "structure"}
    described = json.dumps(Manifest.read(folder).model_dump(mode="json", include=told), sort_keys=True)
    return hashlib.sha256((described + digest(contents(folder), folder)).encode()).hexdigest()


def parent_of(folder: Path, manifest: Manifest) -> Path | None:
    """The folder that `folder` was made from, if it is still there and unchanged; the running stage watches it."""
    if manifest.parent is None:
        return None
    path = Path(os.path.normpath(folder.resolve() / manifest.parent.path))
    watch.also(path)
    if not (path / MANIFEST).is_file() or fingerprint(path) != manifest.parent.fingerprint:
        return None
    return path


def to_first(folder: Path, manifest: Manifest) -> list[tuple[Path, Manifest]]:
    """`folder` and what it was made from, first to last, as far as it is still there."""
    chain = [(folder, manifest)]
    while (parent := parent_of(*chain[0])) is not None:
        chain.insert(0, (parent, Manifest.read(parent)))
    return chain


def link(folder: Path, output: Path) -> Parent:
    """The reference to `folder` that goes into the manifest of `output`; UserError if that is or holds `folder`."""
    if folder.resolve().is_relative_to(output.resolve()):
        raise UserError(f"the output {output} would take the place of {folder}, which it is made from; choose another")
    relative = os.path.relpath(folder.resolve(), output.resolve())
    return Parent(path=relative, fingerprint=fingerprint(folder))
