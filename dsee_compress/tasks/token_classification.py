"""Token classification: a text in, its entities out, by a tag a word."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from .. import data as data_sets
from ..data import encoded
from ..data.files import Table, is_text
from ..errors import UserError
from ..runtime import tagging
from ..runtime.tagging import OUTSIDE, Entity, Range
from .task import Collator, HeadKind, Options, Spec, Task, register
from .text import IGNORED, collator_of_tokens, require_room

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from ..metrics import Metric

COLUMNS = (("tokens", "tags"), ("tokens", "ner_tags"), ("words", "tags"), ("text", "spans"), ("text", "entities"))
"""Usual names of texts in words with a tag each, and of texts with the entities' characters."""
OVERLAP = 4
"""Of a window's tokens, one in so many stands in the window before, too."""


@dataclass(frozen=True)
class Tagged:
    """A text, its words, a tag for each, and where the row stands."""

    text: str
    words: list[Range]
    tags: list[str]
    at: str


@register
class TokenClassification(Task[Options]):
    """Entities: where in a text they stand, and of which type they are."""

    name = "token-classification"
    label = "a tag (IOB2) for each word"
    answers_with = "entities"
    pipeline_tag = "token-classification"
    pipeline_options = 'aggregation_strategy="simple"'
    head: ClassVar[HeadKind] = "token"
    reads = "all tokens"
    metrics = ("entity_f1", "entity_precision", "entity_recall")
    asks = Options

    def describe(self, data: str, options: Options) -> Spec:
        """Read the training split's columns and types; UserError for tags that are not IOB2, or none at all."""
        table, where = data_sets.read_split(data, "train"), f"the train split of {data}"
        text, label = _columns(table, options, where)
        found = {tag.partition("-")[2] for row in _rows(table, text, label, where) for tag in row.tags} - {""}
        if not found:
            raise UserError(f"{where} has no entity in {label!r}; there is nothing to learn")
        tags = [OUTSIDE, *(f"{mark}-{kind}" for kind in sorted(found) for mark in "BI")]
        return self._spec(data, options, text=[text], label=label, labels=tags)

    def encode(self, spec: Spec, split: str, tokenizer: "PreTrainedTokenizerBase") -> "Dataset":
        """Windows of each text, with the tag of each word as the label of its first piece; not padded.

        Beside the model's inputs and `labels`: `example`, the text that a window is of; `pieces`, of each word that is
        read in it, -1 for a word of which the tokenizer keeps nothing; `tags`, of the same words.
        UserError for a column that is missing, texts or tags that are none, or a type that training does not have.
        """
        if not tokenizer.is_fast:
            raise UserError("token classification needs a fast tokenizer, which says where in a text a token stands")
        require_room(spec.max_length, tokenizer, pair=False)
        table, where = data_sets.read_split(spec.data, split), f"the {split} split of {spec.data}"
        index = {tag: number for number, tag in enumerate(spec.labels)}

        def batches() -> Iterator[dict[str, list[Any]]]:
            first = 0
            for rows in encoded.batched(_rows(table, spec.text[0], spec.label, where)):
                for row in rows:
                    for tag in {*row.tags} - index.keys():
                        raise UserError(f"{row.at}: the tag {tag!r} is not in the train split")
                yield _windows(rows, first, index, tokenizer, spec.max_length)
                first += len(rows)

        kinds = sorted({tag[2:] for tag in spec.labels} - {""})
        return encoded.write(batches(), f"text {spec.text[0]!r}; tags {spec.label!r} ({', '.join(kinds)})")

    def judged_by(self, spec: Spec) -> dict[str, "Metric"]:
        """Its own metric, the others, and F1 of each type."""
        from .. import metrics

        kinds = dict.fromkeys(tag[2:] for tag in spec.labels if tag != OUTSIDE)
        return super().judged_by(spec) | {name: metrics.named(name) for name in map("entity_f1:{}".format, kinds)}

    def collator(self, tokenizer: "PreTrainedTokenizerBase") -> Collator:
        """Pads tokens, and their labels with IGNORED."""
        return collator_of_tokens(tokenizer)

    def truth(self, spec: Spec, rows: "Dataset") -> list[set[Entity]]:
        """The entities of each text, in words."""
        return _entities(spec, rows, rows["tags"])

    def predictions(self, spec: Spec, logits: Any, rows: "Dataset", config: "PretrainedConfig") -> list[set[Entity]]:
        """The entities that the best tag of each word tells of; logits: of all tokens, row after row."""
        best, start, tags = logits.argmax(-1), 0, []
        for pieces, ids in zip(rows["pieces"], rows["input_ids"], strict=True):
            tags.append([best[start + piece] if piece >= 0 else 0 for piece in pieces])
            start += len(ids)
        return _entities(spec, rows, tags)

    def as_json(self, predictions: Any) -> list[Any]:
        """First word, the one after the last, and type of each entity."""
        return [sorted(found) for found in predictions]

    def inputs(self, spec: Spec, split: str, tokenizer: "PreTrainedTokenizerBase") -> list[list[int]]:
        """The tokens of each text's windows, one after the other."""
        rows = self.encode(spec, split, tokenizer)
        found: dict[int, list[int]] = {}
        for example, ids in zip(rows["example"], rows["input_ids"], strict=True):
            found.setdefault(example, []).extend(ids)
        return [*found.values()]

    def texts(self, spec: Spec, split: str, count: int) -> list[tuple[str, ...]]:
        """The first texts of a split, with a space between words that are given."""
        table, where = data_sets.read_split(spec.data, split), f"the {split} split of {spec.data}"
        return [(row.text,) for row in islice(_rows(table, spec.text[0], spec.label, where), count)]

    def fed(
        self, spec: Spec, texts: list[tuple[str, ...]], tokenizer: "PreTrainedTokenizerBase"
    ) -> list[dict[str, Any]]:
        """The windows of each text."""
        columns = _cut([text for (text,) in texts], tokenizer, spec.max_length)
        del columns["overflow_to_sample_mapping"], columns["offset_mapping"]
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def bundled(
        self, spec: Spec, tokenizer: "PreTrainedTokenizerBase", config: "PretrainedConfig", new_tokens: int
    ) -> dict[str, Any]:
        """A text goes in whole, and in windows that overlap as in training."""
        return super().bundled(spec, tokenizer, config, new_tokens) | {
            "text": ["text"],
            "stride": _stride(spec.max_length),
        }


def _columns(table: Table, options: Options, where: str) -> tuple[str, str]:
    """The column of words or texts, and that of tags or spans: as named, else by their usual names."""
    if options.text is not None and len(options.text) != 1:
        raise UserError(f"{where}: text names {len(options.text)} columns, and token classification reads one")
    text = options.text[0] if options.text else None
    usual = [
        pair
        for pair in COLUMNS
        if {*pair} <= {*table.columns} and text in (None, pair[0]) and options.label in (None, pair[1])
    ]
    if len(usual) > 1:
        choices = " or ".join(f"--text {words} --label {tags}" for words, tags in usual)
        raise UserError(f"{where} has its entities in several columns; choose with {choices}")
    if not usual and (text is None or options.label is None):
        raise UserError(
            f"{where} has neither tokens and tags nor text and spans among {', '.join(table.columns)}; name them with "
            "--text and --label"
        )
    found = usual[0] if usual else (str(text), str(options.label))
    missing = [name for name in found if name not in table.columns]
    if missing:
        raise UserError(f"{where} has no column {missing[0]!r} among {', '.join(table.columns)}")
    return found


def _rows(table: Table, text: str, label: str, where: str) -> Iterator[Tagged]:
    """The rows of a split, whichever form they have."""
    if table.untyped:
        raise UserError(f"{where} is csv, which holds no lists; token classification needs jsonl or parquet")
    names = table.class_names(label)
    for place, (value, marks) in table.rows([text, label]):
        at = f"{where}, {place}"
        if not isinstance(marks, list):
            raise UserError(f"{at}: {label!r} holds {_short(marks)}, where a list of tags or spans should be")
        if isinstance(value, str):
            yield _from_spans(_text(value, text, at), marks, label, at)
        else:
            yield _from_tags(value, marks, names, (text, label), at)


def _from_tags(tokens: Any, marks: list[Any], names: list[str] | None, columns: tuple[str, str], at: str) -> Tagged:
    """Words that are given, a tag each."""
    text, label = columns
    if not isinstance(tokens, list) or not tokens:
        raise UserError(f"{at}: {text!r} holds {_short(tokens)}, where words or a text should be")
    if len(tokens) != len(marks):
        raise UserError(f"{at}: {len(tokens)} words in {text!r} and {len(marks)} tags in {label!r}")
    words, start = [], 0
    for token in tokens:
        length = len(_text(token, text, at))
        words.append((start, start + length))
        start += length + 1
    tags = [_tag(mark, names, label, at) for mark in marks]
    for before, tag in zip([OUTSIDE, *tags], tags, strict=False):
        if tag.startswith("I-") and before[2:] != tag[2:]:
            raise UserError(f"{at}: {tag} follows {before} in {label!r}; in IOB2 an entity begins with B-")
    return Tagged(" ".join(tokens), words, tags, at)


def _tag(mark: Any, names: list[str] | None, label: str, at: str) -> str:
    if names and isinstance(mark, int) and not isinstance(mark, bool) and mark in range(len(names)):
        mark = names[mark]
    if isinstance(mark, str) and (mark == OUTSIDE or (mark[:2] in ("B-", "I-") and len(mark) > 2 and is_text(mark))):
        return mark
    raise UserError(f"{at}: {label!r} holds {_short(mark)}, which is no tag: they are O, B-TYPE and I-TYPE")


def _from_spans(text: str, spans: list[Any], label: str, at: str) -> Tagged:
    """A text with the characters of its entities; a word is of the entity that holds its beginning."""
    words = tagging.words(text)
    tags = [OUTSIDE] * len(words)
    for span in spans:
        start, end, kind = _span(span, len(text), label, at)
        inside = [index for index, word in enumerate(words) if word[0] < end and word[1] > start]
        if any(tags[index] != OUTSIDE for index in inside):
            raise UserError(f"{at}: spans in {label!r} overlap at character {start}; a word has one tag")
        for index in inside:
            tags[index] = f"{'B' if index == inside[0] else 'I'}-{kind}"
    return Tagged(text, words, tags, at)


def _span(span: Any, length: int, label: str, at: str) -> tuple[int, int, str]:
    found = span if isinstance(span, dict) else {}
    start, end, kind = found.get("start"), found.get("end"), found.get("label", found.get("type"))
    if type(start) is not int or type(end) is not int or not isinstance(kind, str) or not kind or not is_text(kind):
        raise UserError(f"{at}: {label!r} holds {_short(span)}, where start, end and label of an entity should be")
    if not 0 <= start < end <= length:
        raise UserError(f"{at}: a span in {label!r} goes from {start} to {end}, and the text has {length} characters")
    return start, end, kind


def _text(value: Any, column: str, at: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{at}: {column!r} holds {_short(value)}, where a text should be")
    if not is_text(value):
        raise UserError(f"{at}: {column!r} has half a character, a lone surrogate")
    return value


def _windows(
    rows: list[Tagged], first: int, index: dict[str, int], tokenizer: "PreTrainedTokenizerBase", max_length: int
) -> dict[str, list[Any]]:
    """The columns of `encode` for some texts, of which the first is example `first`."""
    given = _cut([row.text for row in rows], tokenizer, max_length)
    windows_of = Counter(given.pop("overflow_to_sample_mapping"))
    offsets = given.pop("offset_mapping")
    columns: dict[str, list[Any]] = {name: [*values] for name, values in given.items()}
    columns |= {name: [] for name in ("labels", "example", "pieces", "tags")}
    start = 0
    for number, row in enumerate(rows):
        windows = offsets[start : start + windows_of[number]]
        placed = tagging.first_pieces(row.words, windows)
        start += len(windows)
        last = 0
        pieces: list[list[int]] = [[] for _ in windows]
        tags: list[list[int]] = [[] for _ in windows]
        labels = [[IGNORED] * len(window) for window in windows]
        for place, tag in zip(placed, row.tags, strict=True):
            last, piece = place or (last, -1)
            pieces[last].append(piece)
            tags[last].append(index[tag])
            if piece >= 0 and labels[last][piece] == IGNORED:
                labels[last][piece] = index[tag]
        columns["labels"] += labels
        columns["example"] += [first + number] * len(windows)
        columns["pieces"] += pieces
        columns["tags"] += tags
    return columns


def _cut(texts: list[str], tokenizer: "PreTrainedTokenizerBase", max_length: int) -> dict[str, Any]:
    """Texts in windows of `max_length` tokens that overlap."""
    return {
        **tokenizer(
            texts,
            truncation=True,
            max_length=max_length,
            stride=_stride(max_length),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
    }


def _stride(max_length: int) -> int:
    """Tokens that a window shares with the one before."""
    return max_length // OVERLAP


def _entities(spec: Spec, rows: "Dataset", tags: list[list[int]]) -> list[set[Entity]]:
    """The entities of each text from the tags of its words, window after window."""
    of_text: dict[int, list[str]] = {}
    for example, own in zip(rows["example"], tags, strict=True):
        of_text.setdefault(example, []).extend(spec.labels[tag] for tag in own)
    return [{*tagging.entities(words)} for words in of_text.values()]


def _short(value: Any) -> str:
    try:
        return json.dumps(value)[:60]
    except (TypeError, ValueError):
        return f"a {type(value).__name__}"
