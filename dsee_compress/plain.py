"""Texts of others, labels and file names among them, as text: never as commands to what shows them."""

import unicodedata

_DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
"""Classes of the characters that turn the order of what stands around them."""


def plain(text: object, keep: str = "") -> str:
    """`text` with control characters as escapes, `\\x1b` say, but for those in `keep`.

    These are the controls of terminals, line ends, halves of surrogate pairs, as names that are no UTF-8 have them, and
    what reverses the direction of other text.
    """
    return "".join(letter if letter in keep or not _controls(letter) else _escape(letter) for letter in str(text))


def _controls(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(letter) in _DIRECTIONS


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
