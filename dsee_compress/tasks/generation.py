"""Generation: a source in, a text out; a decoder reads the prompt, writes the target and ends."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from .. import data as data_sets
from ..data import encoded
from ..data.files import is_text
from ..errors import UserError, shown
from ..strict import nearest
from . import task
from .task import Collator, HeadKind, Spec, Task, register
from .text import IGNORED, collator_of_tokens

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

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


class Options(task.Options):
    """What generation has to be told."""

    prompt: str | None = Field(
        None,
        description="For generation: what stands before the target, with the source in it; "
        "'{source}' and a line's end if not given.",
    )


@register
class Generation(Task[Options]):
    """A text to be written."""

    name = "generation"
    label = "a text to be written"
    answers_with = "text"
    pipeline_tag = "text-generation"
    head: ClassVar[HeadKind] = "language"
    reads = "all tokens"
    metrics = ("bleu", "chrf", "ter", "rouge_l", "nist", "perplexity")
    asks = Options
    own_options: ClassVar = {"prompt": "is about generation, and the task is {task}"}

    def require(self, options: Options) -> None:
        """ValueError for a prompt without a place for the source, or more columns than one."""
        if options.prompt is not None and options.prompt.count(SOURCE) != 1:
            raise ValueError(f"prompt {shown(options.prompt)} has to hold {SOURCE} once")
        if options.text is not None and len(options.text) != 1:
            raise ValueError(f"text names {len(options.text)} columns, and generation reads one")

    def describe(self, data: str, options: Options) -> Spec:
        """Read the training split's columns into a task; UserError for rows that are no sources with their targets."""
        table, where = data_sets.read_split(data, "train"), f"the train split of {data}"
        if options.label is None and {*TARGET_COLUMNS} <= {*table.columns}:
            raise UserError(f"{where} has both {' and '.join(map(repr, TARGET_COLUMNS))}; choose with --label")
        spec = self._spec(
            data,
            options,
            text=options.text or [SOURCE_COLUMN],
            label=_target_column(table.columns, options.label or TARGET_COLUMNS[0], where),
            labels=[],
            prompt=options.prompt or PROMPT,
        )
        references(spec, "train")
        return spec

    def texts(self, spec: Spec, split: str, count: int) -> list[tuple[str, ...]]:
        """The first distinct sources of a split in their prompts."""
        return [(_in_prompt(spec, source),) for source in islice(references(spec, split), count)]

    def encode(self, spec: Spec, split: str, tokenizer: "PreTrainedTokenizerBase") -> "Dataset":
        """Rows of prompt, target and end of text, one a reference, with `labels` IGNORED on the prompt; not padded.

        They stand in the order of `prompts`. A target that is too long for `max_length` is cut, and then does not end.
        UserError for a missing column, a row that is no source with its targets, or a prompt that leaves no room.
        """
        prompted = prompts(spec, split, tokenizer)
        pairs = ((prompt.tokens, target) for prompt in prompted for target in prompt.references)

        def batches() -> Iterator[dict[str, list[Any]]]:
            for some in encoded.batched(pairs):
                targets = tokenizer([target for _, target in some], add_special_tokens=False)["input_ids"]
                ends = [
                    [*target, tokenizer.eos_token_id][: spec.max_length - len(prompt)]
                    for (prompt, _), target in zip(some, targets, strict=True)
                ]
                tokens = [prompt + end for (prompt, _), end in zip(some, ends, strict=True)]
                yield {
                    "input_ids": tokens,
                    "attention_mask": [[1] * len(ids) for ids in tokens],
                    "labels": [[IGNORED] * len(prompt) + end for (prompt, _), end in zip(some, ends, strict=True)],
                }

        label = _target_column(data_sets.read_split(spec.data, split).columns, spec.label, _place(spec, split))
        read = f"source {spec.text[0]!r}, target {label!r}, of {len(prompted):,} different sources"
        return encoded.write(batches(), read)

    def collator(self, tokenizer: "PreTrainedTokenizerBase") -> Collator:
        """Pads tokens, and their labels with IGNORED."""
        return collator_of_tokens(tokenizer)

    def trained_on(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The same batch without the logits before the targets.

        What a model says after a prompt's tokens, but for the last, is compared with nothing, and scoring the
        vocabulary there is a good part of a step. Labels (batch, tokens) are cut to the tokens that keep their logits.
        """
        labels = batch["labels"]
        first_target = int((labels != IGNORED).any(dim=0).nonzero()[0])
        kept = labels.shape[1] - max(first_target - 1, 0)
        return batch | {"labels": labels[:, -kept:], "logits_to_keep": kept}

    def inputs(self, spec: Spec, split: str, tokenizer: "PreTrainedTokenizerBase") -> list[list[int]]:
        """The tokens of each prompt of a split."""
        return [prompt.tokens for prompt in prompts(spec, split, tokenizer)]

    def bundled(
        self, spec: Spec, tokenizer: "PreTrainedTokenizerBase", config: "PretrainedConfig", new_tokens: int
    ) -> dict[str, Any]:
        """What stands before a source and a text, and where a text ends."""
        return super().bundled(spec, tokenizer, config, new_tokens) | {
            "prompt": spec.prompt,
            "start": start_of(tokenizer),
            "end": tokenizer.eos_token_id,
            "max_new_tokens": new_tokens,
        }


def _in_prompt(spec: Spec, source: str) -> str:
    """What stands before the target of a source."""
    return (spec.prompt or PROMPT).replace(SOURCE, source)


def prompts(spec: Spec, split: str, tokenizer: "PreTrainedTokenizerBase") -> list[Prompt]:
    """The distinct sources of a split as prompts, in the order of their first rows.

    Prompts are tokenised by themselves, in training as in writing. UserError as for `encode`.
    """
    found = references(spec, split)
    tokens = tokens_of(spec, list(found), tokenizer)
    longest = max(tokens, key=len)
    if len(longest) >= spec.max_length:
        source = list(found)[tokens.index(longest)]
        raise UserError(
            f"{_place(spec, split)} has the source {_short(source)!r}, a prompt of {len(longest)} tokens, "
            f"which leaves no room for a target in max_length {spec.max_length}"
        )
    return [Prompt(ids, targets) for ids, targets in zip(tokens, found.values(), strict=True)]


def tokens_of(spec: Spec, sources: list[str], tokenizer: "PreTrainedTokenizerBase") -> list[list[int]]:
    """The prompt of each source as tokens; UserError for a source without a text."""
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer has no end-of-text token, and a model that writes has to know when to end")
    if not all(source.strip() for source in sources):
        raise UserError("a prompt is empty; give it some text")
    texts = [_in_prompt(spec, source) for source in sources]
    start = start_of(tokenizer)
    return [start + ids for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def start_of(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """What stands before every prompt: the token that begins a text, where the tokenizer has it so."""
    bos: int | None = tokenizer.bos_token_id
    return [bos] if bos is not None and tokenizer("")["input_ids"][:1] == [bos] else []


def references(spec: Spec, split: str) -> dict[str, list[str]]:
    """The targets of each distinct source of a split; UserError for a row that is no source with its targets."""
    table = data_sets.read_split(spec.data, split)
    where, (text,) = _place(spec, split), spec.text
    if text not in table.columns:
        raise UserError(f"{where} has no column {text!r}; {nearest(text, table.columns)}; name it with --text")
    label = _target_column(table.columns, spec.label, where)
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


def _target_column(columns: list[str], label: str, where: str) -> str:
    names = [label, *(TARGET_COLUMNS if label in TARGET_COLUMNS else ())]
    found = next((name for name in names if name in columns), None)
    if found is None:
        raise UserError(
            f"{where} has no target column {' or '.join(map(repr, dict.fromkeys(names)))} among {', '.join(columns)}; "
            "name it with --label"
        )
    return found


def _place(spec: Spec, split: str) -> str:
    return f"the {split} split of {spec.data}"


def _short(text: str, length: int = 40) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
