"""What a stage raises on purpose; everything else is a crash of our own."""

import reprlib
from typing import Any

from .plain import plain


class UserError(Exception):
    """A mistake in what was asked for: one sentence saying what is wrong, where, and what to do."""


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, with the next if it ends with a colon; its name if it says nothing."""
    first, *more = (str(error).strip() or type(error).__name__).splitlines()
    return " ".join([first, *(line.strip() for line in more[:1] if first.endswith(":"))])


_LONGEST_LINE = 1000


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 3, 200, 200, 60

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to write integers of thousands of digits."""
        return super().repr_int(x, level) if x.bit_length() < 10_000 else "a number of thousands of digits"


def shown(value: Any) -> str:
    """A value as Python writes it, for a sentence: control characters escaped, cut where it is long."""
    return _Short().repr(value)


def one_line(text: str) -> str:
    """What an error says as one line that a terminal only shows: control characters escaped, cut where it is long."""
    line = " ".join(text.split())
    line = line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…"
    return plain(line)


class GateError(Exception):
    """A proof at a hand-over did not hold: says what was compared, by how much it differs and the limit."""
