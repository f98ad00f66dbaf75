"""What tasks on one text or a pair share: the columns of a split, and its rows as tokens."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from . import data as data_sets

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


IGNORED = -100
"""The label of a token that the loss passes over."""


@dataclass(frozen=True)
class Split:
    """The rows of a split, and which of their columns a task reads."""

    rows: "Dataset"
    text: list[str]
    label: str
    where: str
    """What an error calls it."""

    @property
    def labels(self) -> list[Any]:
        """The label column as it is stored."""
        return list(self.rows[self.label])


def read(data: str, split: str, text: list[str] | None, label: str | None) -> Split:
    """A split with its columns, as named or by their usual names; UserError if one is missing or holds lists."""
    rows = data_sets.read_split(data, split)
    where = f"the {split} split of {data}"
    found = Split(
        rows,
        data_sets.find_text(rows.column_names, text, where),
        data_sets.find_label(rows.column_names, label, where),
        where,
    )
    if isinstance(rows[0][found.label], list | dict):
        raise UserError(f"{where} has lists or objects in {found.label!r}; one label a row")
    return found


def encode(
    split: Split, labels: list[int] | list[float], max_length: int, tokenizer: "PreTrainedTokenizerBase"
) -> "Dataset":
    """The split's texts as tokens, cut to `max_length`, with `labels` beside them; not padded.

    UserError for a text that is not a string, or no room for one.
    """
    special = tokenizer.num_special_tokens_to_add(pair=len(split.text) == 2)
    if max_length <= special:
        raise UserError(f"max_length {max_length} leaves no room beside the {special} special tokens of a row")

    def encode_rows(batch: dict[str, list[Any]]) -> dict[str, Any]:
        texts = [batch[column] for column in split.text]
        for column, values in zip(split.text, texts, strict=True):
            bad = next((value for value in values if not isinstance(value, str)), "")
            if bad != "":
                raise UserError(f"{split.where}: column {column!r} has {bad!r} where a text should be")
        return dict(tokenizer(*texts, truncation=True, max_length=max_length))

    tokens = split.rows.map(
        encode_rows,
        batched=True,
        remove_columns=split.rows.column_names,
        keep_in_memory=True,
        load_from_cache_file=False,
    )
    return tokens.add_column("labels", labels)


def collator(tokenizer: "PreTrainedTokenizerBase") -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Pads a list of encoded rows to its longest, on the tokenizer's side.

    Rows whose labels are lists are padded on the right, and their labels with IGNORED. A tokenizer without a padding
    token pads with its end of text, which the attention mask hides.
    """
    import torch

    fill = {
        "input_ids": tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        "token_type_ids": tokenizer.pad_token_type_id,
        "attention_mask": 0,
        "labels": IGNORED,
    }

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        longest = max(len(row["input_ids"]) for row in rows)
        left = tokenizer.padding_side == "left" and not isinstance(rows[0].get("labels"), list)
        batch = {}
        for name in rows[0]:
            values = [row[name] for row in rows]
            if isinstance(values[0], list):
                gaps = [[fill[name]] * (longest - len(value)) for value in values]
                values = [gap + value if left else value + gap for value, gap in zip(values, gaps, strict=True)]
            batch[name] = torch.tensor(values)
        return batch

    return collate
