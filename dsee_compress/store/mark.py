"""A mark in a folder says that it was written to its end, and by their digests which files it then held."""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..digests import sha256
from .folders import write_json

MARK = "whole.json"


class Mark(BaseModel):
    """The content of `whole.json`."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    files: dict[str, str] = Field(min_length=1)
    """SHA-256 of each file."""
    seconds: float = 0.0
    """Seconds of training until then."""


def write(folder: Path, files: dict[str, str], seconds: float = 0.0) -> None:
    """Mark `folder`, once its `files` with these digests are there."""
    write_json(folder / MARK, Mark(files=files, seconds=seconds).model_dump())


def read(folder: Path) -> Mark:
    """The mark of `folder`; ValueError, which names the file, if it or what it tells of is not as it was written."""
    try:
        mark = Mark.model_validate(json.loads((folder / MARK).read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError, RecursionError) as error:
        raise ValueError(MARK) from error
    for name, digest in mark.files.items():
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            raise ValueError(name)
    return mark
