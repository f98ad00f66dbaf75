"""A full disk, whatever the library that met it makes of it."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import GateError, UserError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_WORDS = ("No space left on device", "os error 28", "Disk quota exceeded", "os error 122")
"""How errors of Rust and C++ libraries tell it that carry no number."""
_PROBE = 1 << 20
"""Bytes that a disk has to take which is not full."""


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Raise UserError for an error of the block that a full disk explains, that of `folder` or of temporary files.

    torch.save, onnx and protobuf say that a write failed, or that a file is damaged, and not why: then the disk is
    asked, before anything is removed from it.
    """
    try:
        yield
    except (UserError, GateError):
        raise
    except Exception as error:
        if not is_of_a_full_disk(error) and isinstance(error, OSError):
            raise
        full = [place for place in (folder.parent, Path(tempfile.gettempdir())) if _is_full(place)]
        if not full and not is_of_a_full_disk(error):
            raise
        where = full[0] if full else folder.parent
        raise UserError(f"no space left in {where}; free some, and run the command again") from error


def is_of_a_full_disk(error: BaseException) -> bool:
    """Whether an error, or one that led to it, says that no space is left."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return True
        if any(words in str(cause) for words in _WORDS):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _is_full(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno in _FULL
    return False
