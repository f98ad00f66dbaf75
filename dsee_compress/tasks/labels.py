"""What the label of a row is: what the file says, of one type in a whole split."""

from typing import Any

from ..data.files import Place, is_text
from ..errors import UserError
from .text import Split

Label = bool | int | str


class Labels:
    """The labels of one split, in the order of its rows."""

    def __init__(self, split: Split) -> None:
        self._split = split
        self._seen: dict[Label, str] = {}
        self._first: tuple[Label, Place] | None = None
        self.declared = split.table.class_names(split.label)
        """The names of the labels, where the set has them as numbers and says what they mean."""

    def name(self, value: Any, place: Place) -> str:
        """The class that a label names.

        UserError for a label that is missing, is no class, or is of another type than those before it.
        """
        label = self._label(value, place)
        if self.declared and not isinstance(label, str):
            if label == -1:
                raise UserError(f"{self._split.where}: {place} has no label (-1); remove such rows, or label them")
            if label in range(len(self.declared)):
                return self.declared[label]
        if self._first is None:
            self._first = label, place
        elif type(label) is not type(self._first[0]):
            where, (other, there) = self._split.where, self._first
            raise UserError(
                f"{where} has labels of different types in {self._split.label!r}: {_shown(other)} ({there}) "
                f"and {_shown(label)} ({place}); write them alike"
            )
        return self._seen.setdefault(label, _name(label))

    def sorted(self) -> list[str]:
        """The distinct names so far: numbers by their value, texts by their characters."""
        return [self._seen[label] for label in sorted(self._seen)]

    def _label(self, value: Any, place: Place) -> Label:
        where, column = self._split.where, self._split.label
        if isinstance(value, bool | int):
            return value
        if isinstance(value, str) and value:
            if not is_text(value):
                raise UserError(f"{place} has {value!r} in {column!r}, which is no text: half a character stands in it")
            return value
        if value is None or value == "" or value != value:
            raise UserError(f"{where} has rows without a {column!r}; the first is {place}")
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, list | dict):
            raise UserError(f"{where} has lists or objects in {column!r} ({place}); one label a row")
        if isinstance(value, float):
            raise UserError(
                f"{where} has numbers with a fraction as labels, {value!r} ({place}); classification needs classes"
            )
        raise UserError(
            f"{where} has values of the type {type(value).__name__} as labels ({place}); write them as texts or numbers"
        )


def _name(label: Label) -> str:
    """As JSON writes it, but for the quotes of a text."""
    return str(label).lower() if isinstance(label, bool) else str(label)


def _shown(label: Label) -> str:
    return repr(label) if isinstance(label, str) else _name(label)


_SHOWN = 5
_LONGEST_SHOWN = 40


def in_words(labels: list[str]) -> str:
    """The first of some labels, in a line."""
    shown = [label if _is_plain(label) else repr(label)[:_LONGEST_SHOWN] for label in labels[:_SHOWN]]
    return ", ".join([*shown, *([f"… {len(labels)} in all"] if len(labels) > _SHOWN else [])])


def _is_plain(label: str) -> bool:
    return label.isprintable() and "," not in label and label == label.strip() and len(label) <= _LONGEST_SHOWN
