"""The state from which a killed command goes on, in `.NAME.checkpoints` beside its output NAME.

It is gone when NAME appears.
"""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import distributed
from ..digests import sha256
from ..progress import tell
from ..weights import load_tensors, save_tensors
from . import folders, mark

if TYPE_CHECKING:
    from torch import Tensor


def state(output: Path, key: dict[str, Any]) -> Path:
    """The folder for training's checkpoints; emptied unless as many processes with the same `key` left them."""
    count = distributed.processes()
    return _state(output, key if count == 1 else {**key, "processes": count})


@distributed.in_main
def _state(output: Path, key: dict[str, Any]) -> Path:
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
    folders.write_json(key_file, key)
    return folder


@distributed.in_main
def discard(output: Path) -> None:
    """Remove the state after `output` was written."""
    shutil.rmtree(folders.beside(output, "checkpoints"), ignore_errors=True)


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
        folders.fsync(partial)
        mark.write(folder, {path.name: sha256(partial)})
        partial.replace(path)
    return load_tensors(path)
