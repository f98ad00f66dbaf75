"""latency.json: what a bundle's bench.py measured on a device, read and checked."""

import json
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from ..errors import UserError
from ..store.results import Environment, Known, Row

SCHEMA = 1


class Measured(Known):
    """The content of latency.json."""

    bundle: str
    """Fingerprint of the export folder that the bundle was made from."""
    latency: list[Row] = Field(min_length=1)
    environment: Environment


def together(kept: Path, add: list[Path], export: str) -> list[dict[str, Any]]:
    """What earlier reports kept in the file `kept`, if it is there, and then what `add` holds, each once.

    Raises UserError as read does, and if the kept figures are damaged or not of the export with that fingerprint.
    """
    devices = _kept(kept, export) if kept.is_file() else []
    for path in add:
        device = read(path, export)
        if device not in devices:
            devices.append(device)
    return devices


def _kept(path: Path, export: str) -> list[dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        devices: list[dict[str, Any]] = content["devices"]
        made_from = content["key"]["folder"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged; remove it, and add the devices' figures again") from error
    if made_from != export:
        raise UserError(f"{path} is of an earlier content of its folder; remove it, and measure the devices again")
    return devices


def read(path: Path, export: str) -> dict[str, Any]:
    """One entry of report.json's `devices`, from the latency.json at `path`.

    Raises UserError if the file is missing, no latency.json, of a newer schema, or measured with a bundle of
    another export than the one with the fingerprint `export`.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}; give a latency.json that a bundle's bench.py wrote")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["schema"]
        if version > SCHEMA:
            raise UserError(
                f"{path} has schema {version}, and this version of dsee-compress reads up to {SCHEMA}; upgrade it"
            )
        measured = Measured.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{path} is not what a bundle's bench.py writes ({place}: {first['msg'].lower()}); measure again"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not what a bundle's bench.py writes; measure again") from error
    if measured.bundle != export:
        raise UserError(
            f"{path} was measured with a bundle of another export (its fingerprint is {measured.bundle[:12]}, that of "
            f"the export here {export[:12]}); measure with a bundle of this one"
        )
    return measured.model_dump(include={"environment", "latency"}, exclude_unset=True)
