"""One writer a folder: a lock that dies with its process.

The lock is flock's, on `.NAME.lock` beside the folder. A killed process leaves the file behind and not the lock, so the
next one takes it over; who ends well removes the file. On NFS, Linux makes a lock on the server of it, which holds
between machines unless the share is mounted with `nolock` or `local_lock`; the server frees that of a machine that
vanished when its lease ends.
"""

import contextlib
import errno
import functools
import inspect
import os
import socket
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import ParamSpec, TypeVar

from .. import distributed
from ..errors import UserError, first_line
from ..progress import tell
from . import folders

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_UNKNOWN = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF}
"""What file systems say that know no locks."""
_held: ContextVar[frozenset[Path]] = ContextVar("held", default=frozenset())


def exclusive(argument: str) -> Callable[[Callable[_Parameters, _Result]], Callable[_Parameters, _Result]]:
    """Let a stage hold the lock of the folder in its `argument` from its first line to its last.

    The stage raises UserError at once if another process holds it. What a killed process left of the folder is put
    right before the stage looks at it.
    """

    def decorate(stage: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
        signature = inspect.signature(stage)

        @functools.wraps(stage)
        def wrapper(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
            with held(signature.bind(*args, **kwargs).arguments[argument]):
                return stage(*args, **kwargs)

        return wrapper

    return decorate


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`, which need not be there yet; a second time in the same call is no conflict.

    Of many processes, the first holds it for all, and all raise its UserError.
    """
    place = folders.real(folder)
    if place in _held.get():
        yield
        return
    with contextlib.ExitStack() as stack:
        distributed.in_main(lambda: stack.enter_context(_locked(place, folder)))()
        before = _held.set(_held.get() | {place})
        try:
            yield
        finally:
            _held.reset(before)


@contextlib.contextmanager
def _locked(place: Path, named: Path) -> Iterator[None]:
    made = [parent for parent in place.parents if not parent.exists()]
    file = _file_of(place)
    try:
        try:
            descriptor = _take(file, named)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            raise UserError(
                f"{named} cannot be written: {file.parent} does not let this user make files; choose another place"
            ) from error
        try:
            folders.restore(place)
            yield
        finally:
            if _is_at(descriptor, file):
                file.unlink()
            os.close(descriptor)
    finally:
        for parent in made:  # a stage that ended without a folder leaves none of those above it
            with contextlib.suppress(OSError):
                parent.rmdir()


def _file_of(place: Path) -> Path:
    """`.NAME.lock` beside the folder; within it where the folder alone can be written, as a mounted one."""
    if place.is_dir() and not os.access(place.parent, os.W_OK):
        return place / ".lock"
    return folders.beside(place, "lock")


def _take(file: Path, named: Path) -> int:
    """The descriptor of the lock's file, locked and with this process in it; UserError if another holds it."""
    import fcntl  # not there on Windows

    while True:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # a process that ends removes the parents that it made
            continue
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"{_holder(descriptor)} is writing to {named}; wait until it has ended, or choose another output"
                ) from error
            except OSError as error:
                if error.errno not in _UNKNOWN:
                    raise
                tell(
                    f"{named} cannot be locked ({first_line(error)}); see that no other process writes to it",
                )
            if _is_at(descriptor, file):  # and not removed between open and flock by the one that held it
                os.ftruncate(descriptor, 0)
                with contextlib.suppress(OSError):  # on a full disk the lock holds, too
                    os.write(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    process, _, host = os.pread(descriptor, 1000, 0).decode(errors="replace").strip().partition(" ")
    return f"process {process} on {host}" if host else "another process"


def _is_at(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False
