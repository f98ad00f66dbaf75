"""A full disk, whatever the library that met it makes of it."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import GateError, UserError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_SENTENCES = {
    **dict.fromkeys(_FULL, "no space left in {}; free some, and run the command again"),
    errno.EFBIG: "a file in {} may not become as large as it has to; allow it (ulimit -f), and run the command again",
}
_WORDS = {os.strerror(number): number for number in _SENTENCES} | {
    f"os error {number}": number for number in _SENTENCES
}
"""How errors of Rust and C++ libraries tell it that carry no number."""
_PROBE = 1 << 20
"""Bytes that a disk has to take which is not full."""


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Raise UserError for an error of the block that a full disk explains, that of `folder` or of temporary files, or
    a limit of the size of files.

    torch.save, onnx and protobuf say that a write failed, or that a file is damaged, and not why: then the disk is
    asked, before anything is removed from it.
    """
    try:
        yield
    except (UserError, GateError):
        raise
    except Exception as error:
        number = _number(error)
        if number is None and isinstance(error, OSError):
            raise
        refusals = {place: _refusal(place) for place in (folder.parent, Path(tempfile.gettempdir()))}
        where = next((place for place, refused in refusals.items() if refused), folder.parent)
        number = refusals[where] or number
        if number is None:
            raise
        raise UserError(_SENTENCES[number].format(where)) from error


def is_of_a_full_disk(error: BaseException) -> bool:
    """Whether an error, or one that led to it, says that no space is left."""
    return _number(error) in _FULL


def _number(error: BaseException) -> int | None:
    """What the system said, as far as an error, or one that led to it, tells that it took no more bytes."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _SENTENCES:
            return cause.errno
        for words, number in _WORDS.items():
            if words in str(cause):
                return number
        cause = cause.__cause__ or cause.__context__
    return None


def _refusal(folder: Path) -> int | None:
    """What the system says to more bytes in a folder, if it does not take them."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno if error.errno in _SENTENCES else None
    return None
