"""A stage folder appears whole or not at all; one that takes another's place leaves the user's own files in it.

While a stage runs it writes to `.NAME.partial` beside its output NAME. A folder that is replaced steps aside as
`.NAME.replaced`; once the new one is there, what is not the stage's moves over, and the rest, now `.NAME.discarded`, is
removed. `restore` ends that, or takes it back, after a kill at any point of it.
"""

import contextlib
import fnmatch
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from .. import distributed
from ..errors import UserError
from . import space

MANIFEST = "dsee.json"
RESULTS = {
    *("validation.json", "benchmark.json", "devices.json", "latency.json"),
    *("report.json", "report.md", "report.html"),
}
"""What is measured of a folder after it was written, and goes with it."""
_PARTIAL_RESULTS = {f".{name}.partial" for name in RESULTS}
_KNOWN = (
    *("config.json", "generation_config.json", "*.safetensors", "*.onnx", "*.onnx*data", "*.ort", "*.config"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model"),
    *("chat_template*", "additional_chat_templates"),
    *("bundle.json", "predict.py", "bench.py", "requirements.txt", "README.md"),
    *("answers.py", "calls.py", "machine.py", "tagging.py", "usage.py"),
)
"""What stages write, for folders whose manifest does not list it, or can no longer be read."""


def real(folder: Path) -> Path:
    """Where `folder` lies, by whatever links and spelling it is named; UserError for a link that leads in a circle."""
    place = Path(os.path.realpath(folder))
    if place.is_symlink():
        raise UserError(f"{folder} is a link that leads in a circle; choose another folder")
    return place


def beside(folder: Path, what: str) -> Path:
    """The hidden `.NAME.what` beside the place of `folder`."""
    place = real(folder)
    return place.parent / f".{place.name}.{what}"


def listed(folder: Path) -> set[str] | None:
    """The names that the stage which wrote `folder` lists in its manifest; None if it lists none or is damaged."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        names = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return {*names}
    return None


@contextlib.contextmanager
def writing(output: Path, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder beside `output` that takes its name, durably, if the block ends well.

    Where `output` is a link, what it leads to is written. Of a folder that is replaced, what its stage did not write
    stays. Of many processes, the first writes; the others get a folder that is thrown away, and wait for the first's.
    """
    if not distributed.is_main():
        with tempfile.TemporaryDirectory() as thrown_away:
            yield Path(thrown_away)
        distributed.wait()
        return
    place, partial = real(output), beside(output, "partial")
    place.parent.mkdir(parents=True, exist_ok=True)
    restore(place)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        with space.told(partial):
            yield partial
            for path in [*partial.rglob("*"), partial]:
                fsync(path)
        if place.exists():
            if not overwrite:
                raise UserError(f"{output} appeared while it was being made; choose another output")
            _require_free(partial, place)
            place.rename(beside(place, "replaced"))
        partial.rename(place)
        fsync(place.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        restore(place)  # after a stop between the two renames, too
    distributed.wait()


def restore(folder: Path) -> None:
    """End what replacing `folder` began, or take it back if the new one is not there; UserError if it cannot be."""
    place, replaced, discarded = real(folder), beside(folder, "replaced"), beside(folder, "discarded")
    if replaced.exists():
        if place.exists():
            for name in _users(replaced, place):
                if os.path.lexists(place / name):
                    raise UserError(f"both {place} and {replaced} hold {name}; move one of them away")
                (place / name).parent.mkdir(exist_ok=True)
                (replaced / name).rename(place / name)
            fsync(place)
            shutil.rmtree(discarded, ignore_errors=True)
            replaced.rename(discarded)
        else:
            replaced.rename(place)
    shutil.rmtree(discarded, ignore_errors=True)


def _users(old: Path, new: Path) -> list[str]:
    """The names in `old` that neither its stage nor a later one of the same folder wrote."""
    own = listed(old)
    kept = []
    for name in sorted(_names(old, own or ())):
        if name in {MANIFEST, *RESULTS, *_PARTIAL_RESULTS} or name in (own or ()):
            continue
        if own is None and (os.path.lexists(new / name) or any(fnmatch.fnmatch(name, known) for known in _KNOWN)):
            continue
        kept.append(name)
    return kept


def _names(folder: Path, own: Collection[str]) -> Iterator[str]:
    """What stands in a folder; of a folder in it that holds some of the stage's `own` files, what stands in that."""
    ours = {parent.as_posix() for name in own for parent in PurePosixPath(name).parents} - {"."}
    for path in folder.iterdir():
        if path.name in ours and path.is_dir():
            below = [name.removeprefix(f"{path.name}/") for name in own if name.startswith(f"{path.name}/")]
            yield from (f"{path.name}/{name}" for name in _names(path, below))
        else:
            yield path.name


def _require_free(new: Path, old: Path) -> None:
    for name in _users(old, new):
        if os.path.lexists(new / name):
            raise UserError(f"{old / name} was not written by the stage, which now writes a file of that name; move it")


def fsync(path: Path) -> None:
    """Make a file's or a folder's content survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: Any) -> None:
    """Write `content` to `path` as JSON."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as a whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        fsync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
