"""What a stage reads stays as it is while the stage reads it: else the stage ends, and nothing is written."""

import functools
import inspect
import os
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

from ..errors import UserError
from .folders import MANIFEST, RESULTS, listed

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class _Seen(NamedTuple):
    folder: Path
    state: Any
    """What `_state` said of it at first."""


_watched: ContextVar[list[_Seen] | None] = ContextVar("watched", default=None)


def steady(argument: str) -> Callable[[Callable[_Parameters, _Result]], Callable[_Parameters, _Result]]:
    """Watch the folder in a stage's `argument` from the stage's first line on.

    The stage calls `require_steady` when it has read the last of it, or before it writes what must agree with it. An
    error of a stage whose folder was replaced meanwhile becomes a UserError that says so.
    """

    def decorate(stage: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
        signature = inspect.signature(stage)

        @functools.wraps(stage)
        def wrapper(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
            before = _watched.set([])
            try:
                also(signature.bind(*args, **kwargs).arguments[argument])
                return stage(*args, **kwargs)
            except Exception as error:
                if changed := _changed():
                    raise UserError(changed) from error
                raise
            finally:
                _watched.reset(before)

        return wrapper

    return decorate


def also(*folders: Path) -> None:
    """Watch further folders from now on, if a stage that reads is running."""
    seen = _watched.get()
    if seen is not None:
        seen.extend(_Seen(folder, _state(folder)) for folder in folders)


def require_steady() -> None:
    """UserError if a folder that the running stage reads is no longer what it was."""
    if changed := _changed():
        raise UserError(changed)


def _changed() -> str:
    for folder, state in _watched.get() or ():
        if _state(folder) != state:
            return f"{folder} was replaced or changed while it was being read; run the command again"
    return ""


def _state(folder: Path) -> Any:
    """The identities, sizes and dates of a folder and of the files in it that its stage wrote; None if it is gone."""
    own = listed(folder)
    state = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if own is None:
                    counts = entry.name not in RESULTS and not entry.name.startswith(".")
                else:
                    counts = entry.name in own or entry.name == MANIFEST
                if counts and entry.is_file():
                    about = entry.stat()
                    state[entry.name] = (about.st_dev, about.st_ino, about.st_size, about.st_ctime_ns)
        about = folder.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino, state
