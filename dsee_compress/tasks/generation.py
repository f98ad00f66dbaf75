"""Generation: a source in, a text out; a decoder reads the prompt, writes the target and ends."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import data as data_sets
from ..checkpoint import Task
from ..configs import SourceConfig, nearest
from ..data import encoded
from ..data.files import is_text
from ..errors import UserError
from ..metrics import OF_TASK
from .text import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

SOURCE = "{source}"
PROMPT = SOURCE + "\n"
SOURCE_COLUMN = "source"
TARGET_COLUMNS = ("targets", "target")
"""Where a split has its targets, if nothing else is said: a list a row, or one a row."""


@dataclass(frozen=True)
class Prompt:
    """What a model writes to, and what people wrote."""

    tokens: list[int]
    references: list[str]


def describe(data: str, config: SourceConfig) -> Task:
    """Read the training split's columns into a task; UserError for rows that are no sources with their targets."""
    table, where = data_sets.read_split(data, "train"), f"the train split of {data}"
    if config.label is None and {*TARGET_COLUMNS} <= {*table.columns}:
        raise UserError(f"{where} has both {' and '.join(map(repr, TARGET_COLUMNS))}; choose with --label")
    task = Task(
        name="generation",
        metric=config.metric or OF_TASK["generation"][0].name,
        data=data,
        text=config.text or [SOURCE_COLUMN],
        label=_target_column(table.columns, config.label or TARGET_COLUMNS[0], where),
        labels=[],
        prompt=config.prompt or PROMPT,
        max_length=config.max_length,
    )
    references(task, "train")
    return task


def encode(task: Task, split: str, tokenizer: "PreTrainedTokenizerBase") -> "Dataset":
    """Rows of prompt, target and end of text, one a reference, with `labels` IGNORED on the prompt; not padded.

    They stand in the order of `prompts`. A target that is too long for `max_length` is cut, and then does not end.
    UserError for a missing column, a row that is no source with its targets, or a prompt that leaves no room.
    """
    prompted = prompts(task, split, tokenizer)
    pairs = ((prompt.tokens, target) for prompt in prompted for target in prompt.references)

    def batches() -> Iterator[dict[str, list[Any]]]:
        for some in encoded.batched(pairs):
            targets = tokenizer([target for _, target in some], add_special_tokens=False)["input_ids"]
            ends = [
                [*target, tokenizer.eos_token_id][: task.max_length - len(prompt)]
                for (prompt, _), target in zip(some, targets, strict=True)
            ]
            tokens = [prompt + end for (prompt, _), end in zip(some, ends, strict=True)]
            yield {
                "input_ids": tokens,
                "attention_mask": [[1] * len(ids) for ids in tokens],
                "labels": [[IGNORED] * len(prompt) + end for (prompt, _), end in zip(some, ends, strict=True)],
            }

    label = _target_column(data_sets.read_split(task.data, split).columns, task.label, _place(task, split))
    read = f"source {task.text[0]!r}, target {label!r}, of {len(prompted):,} different sources"
    return encoded.write(batches(), read)


def prompts(task: Task, split: str, tokenizer: "PreTrainedTokenizerBase") -> list[Prompt]:
    """The distinct sources of a split as prompts, in the order of their first rows.

    Prompts are tokenised by themselves, in training as in writing. UserError as for `encode`.
    """
    found = references(task, split)
    tokens = tokens_of(task, list(found), tokenizer)
    longest = max(tokens, key=len)
    if len(longest) >= task.max_length:
        source = list(found)[tokens.index(longest)]
        raise UserError(
            f"{_place(task, split)} has the source {_short(source)!r}, a prompt of {len(longest)} tokens, "
            f"which leaves no room for a target in max_length {task.max_length}"
        )
    return [Prompt(ids, targets) for ids, targets in zip(tokens, found.values(), strict=True)]


def tokens_of(task: Task, sources: list[str], tokenizer: "PreTrainedTokenizerBase") -> list[list[int]]:
    """The prompt of each source as tokens; UserError for a source without a text."""
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer has no end-of-text token, and a model that writes has to know when to end")
    if not all(source.strip() for source in sources):
        raise UserError("a prompt is empty; give it some text")
    template = task.prompt or PROMPT
    texts = [template.replace(SOURCE, source) for source in sources]
    start = start_of(tokenizer)
    return [start + ids for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def start_of(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """What stands before every prompt: the token that begins a text, where the tokenizer has it so."""
    bos: int | None = tokenizer.bos_token_id
    return [bos] if bos is not None and tokenizer("")["input_ids"][:1] == [bos] else []


def references(task: Task, split: str) -> dict[str, list[str]]:
    """The targets of each distinct source of a split; UserError for a row that is no source with its targets."""
    table = data_sets.read_split(task.data, split)
    where, (text,) = _place(task, split), task.text
    if text not in table.columns:
        raise UserError(f"{where} has no column {text!r}; {nearest(text, table.columns)}; name it with --text")
    label = _target_column(table.columns, task.label, where)
    found: dict[str, list[str]] = {}
    for row, (place, (source, target)) in enumerate(table.rows([text, label])):
        if not _is_written(source):
            raise UserError(f"{where} has {source!r} in {text!r}, row {row}, where a text should be ({place})")
        targets = target if isinstance(target, list) else [target]
        if not targets:
            raise UserError(f"{where} has no target in {label!r}, row {row} ({place})")
        for value in targets:
            if not _is_written(value):
                raise UserError(
                    f"{where} has {value!r} in {label!r}, row {row}, where a target's text should be ({place})"
                )
        found.setdefault(source, []).extend(targets)
    return found


def _is_written(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and is_text(value)


def head(task: Task) -> dict[str, Any]:
    """Nothing: a decoder's head is its vocabulary."""
    return {}


def _target_column(columns: list[str], label: str, where: str) -> str:
    names = [label, *(TARGET_COLUMNS if label in TARGET_COLUMNS else ())]
    found = next((name for name in names if name in columns), None)
    if found is None:
        raise UserError(
            f"{where} has no target column {' or '.join(map(repr, dict.fromkeys(names)))} among {', '.join(columns)}; "
            "name it with --label"
        )
    return found


def _place(task: Task, split: str) -> str:
    return f"the {split} split of {task.data}"


def _short(text: str, length: int = 40) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
