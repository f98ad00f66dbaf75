"""What tasks on one text or a pair share: the columns of a split, and its rows as tokens."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import data as data_sets
from ..data import columns, encoded, long_texts
from ..data.files import Place, Table, is_text
from ..errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


IGNORED = -100
"""The label of a token that the loss passes over."""


@dataclass(frozen=True)
class Split:
    """A split, and which of its columns a task reads."""

    table: Table
    text: list[str]
    label: str
    where: str
    """What an error calls it."""

    def labels(self) -> Iterator[tuple[Any, Place]]:
        """The label of each row as it is stored, and where it stands."""
        return ((label, place) for place, (label,) in self.table.rows([self.label]))


def read(
    data: str, split: str, text: list[str] | None, label: str | None, usual: Sequence[str] = (columns.LABEL,)
) -> Split:
    """A split with its columns, as named or by their usual names; UserError if one is missing.

    usual: names of the label's column, the first that is there.
    """
    table = data_sets.read_split(data, split)
    where = f"the {split} split of {data}"
    label = label or next((name for name in usual if name in table.columns), columns.LABEL)
    names = columns.find_text(table, text, label, where)
    columns.require_label(table, label, where)
    return Split(table, names, label, where)


def encode(
    split: Split,
    label_of: Callable[[Any, Place], int | float | list[float]],
    labels: str,
    max_length: int,
    tokenizer: "PreTrainedTokenizerBase",
) -> "Dataset":
    """The split's texts as tokens, cut to `max_length`, with `labels` beside them as `label_of` gives them; not padded.

    labels: what the description says of them. UserError for a text that is not a string, or no room for one.
    """
    require_room(max_length, tokenizer, pair=len(split.text) == 2)

    def batches() -> Iterator[dict[str, list[Any]]]:
        for rows in encoded.batched(split.table.rows([*split.text, split.label])):
            texts = [[_text(values[index], name, place, split) for place, values in rows] for index, name in named]
            texts = long_texts.shorten(texts, max_length, tokenizer)
            tokens = tokenizer(*texts, truncation=True, max_length=max_length)
            yield {**tokens, "labels": [label_of(values[-1], place) for place, values in rows]}

    named = [*enumerate(split.text)]
    names = ", ".join(map(repr, split.text))
    return encoded.write(batches(), f"text {names}; label {split.label!r} ({labels})")


def _text(value: Any, name: str, place: Place, split: Split) -> str:
    if not isinstance(value, str):
        raise UserError(f"{split.where}: column {name!r} has {value!r} where a text should be ({place})")
    if not is_text(value):
        raise UserError(f"{split.where}: column {name!r} has half a character, a lone surrogate ({place})")
    return value


def require_room(max_length: int, tokenizer: "PreTrainedTokenizerBase", *, pair: bool) -> None:
    """UserError if special tokens alone fill `max_length`."""
    special = tokenizer.num_special_tokens_to_add(pair=pair)
    if max_length <= special:
        raise UserError(f"max_length {max_length} leaves no room beside the {special} special tokens of a row")


def collator(tokenizer: "PreTrainedTokenizerBase") -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Pads a list of encoded rows to its longest, on the tokenizer's side; what is no input of a model is left out."""
    from transformers import DataCollatorWithPadding

    return _of_inputs(tokenizer, DataCollatorWithPadding(tokenizer))


def collator_of_tokens(tokenizer: "PreTrainedTokenizerBase") -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """As `collator`, of rows with a label for each token: padded on the right, and their labels with IGNORED.

    A tokenizer without a padding token pads with its end of text, which the attention mask hides.
    """
    from transformers import DataCollatorForTokenClassification

    on_the_right = copy.copy(tokenizer)
    on_the_right.padding_side = "right"
    if on_the_right.pad_token is None:
        on_the_right.pad_token = on_the_right.eos_token
    return _of_inputs(tokenizer, DataCollatorForTokenClassification(on_the_right, label_pad_token_id=IGNORED))


def _of_inputs(
    tokenizer: "PreTrainedTokenizerBase", pad: Callable[[list[dict[str, Any]]], Any]
) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    names = {*tokenizer.model_input_names, "labels"}

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {**pad([{name: row[name] for name in row if name in names} for row in rows])}

    return collate
