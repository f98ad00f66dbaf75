"""Which columns of a split a task reads: as named, else by their usual names, and never without a word."""

from itertools import islice
from typing import Any

from ..errors import UserError
from ..progress import tell
from ..strict import nearest
from .files import SAMPLE, Table

PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
    ("question", "context"),
    ("question", "answer"),
    ("query", "passage"),
    ("query", "document"),
    ("claim", "evidence"),
    ("text", "text_pair"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("sentence_1", "sentence_2"),
    ("sentence_a", "sentence_b"),
    ("sentence_A", "sentence_B"),
)
SINGLES = ("sentence", "text")
"""Usual names of a text that stands alone."""
LABEL = "label"


def find_text(table: Table, given: list[str] | None, label: str, where: str) -> list[str]:
    """The text column, or the two of a pair: as given, else by the usual names.

    Tells of other columns that hold texts. UserError for a name that is not there, or two that are equally usual.
    """
    columns = table.columns
    if given is not None:
        for name in given:
            if name not in columns:
                raise UserError(f"{where} has no column {name!r}; {nearest(name, columns)}")
        if not 1 <= len(given) <= 2:
            raise UserError(f"{where}: one text column or two, not {len(given)}")
        if len({*given, label}) <= len(given):
            raise UserError(f"{where}: {' and '.join(map(repr, [*given, label]))} are text and label; name each once")
        return given
    found = _usual(columns, label, where)
    for name in _other_texts(table, {*found, label}):
        both = f" --text {found[0]},{name}" if len(found) == 1 else " --text"
        tell(
            f"{where} holds texts in {name!r}, too, which are not read; if they belong to the input, name the "
            f"columns with{both}",
        )
    return found


def require_label(table: Table, name: str, where: str) -> None:
    """UserError unless the label column is there."""
    if name not in table.columns:
        raise UserError(f"{where} has no label column {name!r} among {', '.join(table.columns)}; name it with --label")


def _usual(columns: list[str], label: str, where: str) -> list[str]:
    free = {*columns} - {label}
    found = [[*pair] for pair in PAIRS if {*pair} <= free] or [[name] for name in SINGLES if name in free]
    if not found:
        raise UserError(f"{where} has no text column among {', '.join(columns)}; name it with --text")
    if len(found) > 1:
        choices = " or ".join(",".join(names) for names in found)
        raise UserError(f"{where} has several columns that may be the text; choose with --text {choices}")
    return found[0]


def _other_texts(table: Table, used: set[str]) -> list[str]:
    """Other columns whose first values are strings, most of them of several words."""
    others = [name for name in table.columns if name not in used]
    sample = list(zip(*(values for _, values in islice(table.rows(others), SAMPLE)), strict=True))
    return [name for name, values in zip(others, sample, strict=False) if _is_prose(values)]


def _is_prose(values: tuple[Any, ...]) -> bool:
    return all(isinstance(value, str) for value in values) and 2 * sum(map(_has_words, values)) > len(values)


def _has_words(value: str) -> bool:
    """Whether a string is of several words, or long in a script that may not part them."""
    words = [word for word in value.split() if any(map(str.isalpha, word))]
    return len(words) > 1 or sum(not character.isascii() for character in value) > 8
