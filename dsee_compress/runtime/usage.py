"""How the programs of a bundle say what is wrong."""

from __future__ import annotations


class UsageError(Exception):
    """A mistake in what was asked for: one sentence."""


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its name if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def shown(text: object) -> str:
    """`text` with what is no visible character written as an escape: a name is no command to the terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in str(text)
    )
