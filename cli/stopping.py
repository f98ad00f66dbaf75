"""Ctrl-C and SIGTERM: an exception where the program stands, raised again until it has ended the command.

Python ignores what is raised in a weak reference's callback or in `__del__`, and libraries lose it in their C++ and
Rust. So a timer follows a stop, and where no code is handling the exception any more, it raises another one.
"""

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

_Result = TypeVar("_Result")
_AGAIN = 0.1
"""Seconds after which a stop that got lost is raised again."""


class Stopped(BaseException):
    """A signal that asks the program to end, so that it cleans up on its way out."""

    def __init__(self, number: int) -> None:
        self.signal = number


class _State:
    asked: int = 0
    """The first signal that came; 0 before."""
    armed: bool = False
    """Whether a command is running that a stop can end."""


def listen() -> None:
    """Take SIGINT and SIGTERM from now on."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    sys.unraisablehook = _unraisable


def until_stopped(function: Callable[[], _Result]) -> _Result:
    """Call `function`; raises Stopped if a stop was asked for before it returned, whatever became of that in it."""
    _State.armed = True
    try:
        _raise_if_asked()
        result = function()
    except Exception as error:
        if _State.asked:
            raise Stopped(_State.asked) from error
        raise
    finally:
        _State.armed = False
        if _State.asked:
            signal.setitimer(signal.ITIMER_REAL, 0)
    _raise_if_asked()
    return result


def _stop(number: int, frame: FrameType | None) -> None:
    if not _State.asked:
        _State.asked = number
        signal.signal(signal.SIGALRM, _again)
        signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
    _again(number, frame)


def _again(number: int, frame: FrameType | None) -> None:
    if _State.armed and not _unwinding():
        raise Stopped(_State.asked)


def _raise_if_asked() -> None:
    if _State.asked:
        raise Stopped(_State.asked)


def _unwinding() -> bool:
    """Whether the code that was interrupted is cleaning up after a stop."""
    error = sys.exc_info()[1]
    while error is not None:
        if isinstance(error, Stopped):
            return True
        error = error.__context__
    return False


def _unraisable(lost: Any) -> None:
    if not issubclass(lost.exc_type, Stopped):
        sys.__unraisablehook__(lost)
