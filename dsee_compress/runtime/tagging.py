"""From a text to its words, from the pieces of a tokenizer to one piece a word, and from tags to entities.

Positions are characters of the text, ends excluded. Tags are strict IOB2: an entity begins with B-TYPE and goes on
with I-TYPE of its own type; an I- that follows nothing of its type is no entity.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence

Range = tuple[int, int]
"""Where something begins and ends."""
Piece = tuple[int, int]
"""A window, and a piece in it."""
Entity = tuple[int, int, str]
"""First word, the one after its last, and type."""

_ALONE = "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Characters of scripts that write no spaces between words: each is taken for a word."""
_WORD = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+|[^\w\s]")
OUTSIDE = "O"


def words(text: str) -> list[Range]:
    """Runs of letters and digits; what is neither, and no white space, is a word by itself."""
    return [match.span() for match in _WORD.finditer(text)]


def first_pieces(words: Sequence[Range], windows: Sequence[Sequence[Range]]) -> list[Piece | None]:
    """The piece that each word's tag is read at: the first that holds any of it.

    windows: where each piece of a window stands in the text, an empty range for special tokens. Windows overlap; a word
    is read in the one that shows most around it. None for a word of which the tokenizer kept nothing.
    """
    ends = [end for _, end in words]
    found: list[Piece | None] = [None] * len(words)
    around = [-1] * len(words)
    for number, pieces in enumerate(windows):
        for index, (start, end) in enumerate(pieces):
            before = index if number > 0 else len(pieces)
            after = len(pieces) - 1 - index if number < len(windows) - 1 else len(pieces)
            word = bisect_right(ends, start)
            while start < end and word < len(words) and words[word][0] < end:
                earlier = found[word]
                if min(before, after) > around[word] and (earlier is None or earlier[0] != number):
                    found[word], around[word] = (number, index), min(before, after)
                word += 1
    return found


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities that the tags of a text's words tell of."""
    found: list[Entity] = []
    start, kind = 0, ""
    for index, tag in enumerate([*tags, OUTSIDE]):
        mark, _, own = tag.partition("-")
        if kind and not (mark == "I" and own == kind):
            found.append((start, index, kind))
            kind = ""
        if mark == "B":
            start, kind = index, own
    return found
