"""Whether what a command would write is there already, and may be overwritten."""

import contextlib
import json
from collections.abc import Set
from pathlib import Path
from typing import Any

from .. import distributed
from ..errors import UserError
from . import folders, results, resume
from .folders import MANIFEST
from .manifest import OF_STAGE, Manifest, Stage


def require_own(output: Path, stage: Stage) -> None:
    """UserError if `output` holds anything but what this stage wrote, whole or damaged."""
    if not output.exists():
        return
    if not (output / MANIFEST).is_file():
        raise UserError(f"{output} already exists and is not a stage folder; choose another output")
    try:
        there = Manifest.read(output)
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
        resume.discard(output)
    if overwrite or not output.exists():
        return False
    there = Manifest.read(output)
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
    resume.discard(output)
    return True


def has_result(path: Path, key: dict[str, Any]) -> bool:
    """Whether `path` holds a whole result that was made with the same `key`."""
    with contextlib.suppress(OSError, ValueError):
        return bool(results.read(path)["key"] == key)
    return False


def _defaults(stage: Stage, names: Set[str]) -> dict[str, Any]:
    """What options stand at that the version which wrote a folder did not know."""
    fields = OF_STAGE[stage].options.model_fields
    return {name: fields[name].get_default() for name in names if name in fields}
