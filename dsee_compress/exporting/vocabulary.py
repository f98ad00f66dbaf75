"""Trim a vocabulary: tokenizer and embedding keep the tokens that a task needs, and those that spell every other word.

A decoder's head is cut with them: it scores, and so writes, the kept tokens alone.

A text whose tokens all stay is split as before. Any other text is split into what stays: single characters (or bytes)
always do. What stays keeps its order, so the id of a token is its place among the kept rows of the embedding.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import architectures
from ..errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Content = dict[str, Any]
"""What tokenizer.json holds, or a part of it."""


@dataclass(frozen=True)
class Trimmed:
    """A smaller tokenizer, and the rows of the embedding that it needs."""

    tokenizer: Content
    new_ids: dict[int, int]
    """New id of each kept token, by its old id, which is its row; in their order."""


def trim(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", wanted: Iterable[int]
) -> tuple["PreTrainedTokenizerBase", dict[int, int]]:
    """Cut the embedding and a decoder's head, in place, to the `wanted` ids and what has to stay with them.

    Returns the tokenizer that belongs to it, and the new id of each kept token by its old id, in their order.
    UserError for a tokenizer that cannot be cut.
    """
    require_known(tokenizer)
    trimmed = cut(json.loads(tokenizer.backend_tokenizer.to_str()), {*wanted, *_ids_of(model)})
    smaller = _rebuilt(tokenizer, trimmed)
    _cut_embedding(model, trimmed.new_ids)
    return smaller, trimmed.new_ids


def require_known(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Raise UserError for a tokenizer of a kind that `trim` does not know."""
    if not tokenizer.is_fast:
        raise UserError(f"{_CANNOT}: the tokenizer has no tokenizer.json; use a fast tokenizer")
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    _kind(content["model"])
    _ids_around(content["post_processor"])


def cut(tokenizer: Content, wanted: Iterable[int]) -> Trimmed:
    """The tokenizer with the tokens of the `wanted` ids, and with all that has to stay with them.

    Special and added tokens stay, those that the post-processor puts around a text, and what the kind of the
    vocabulary asks for; `wanted` may hold ids of the embedding that no token has. UserError for a kind that is not
    known.
    """
    kind = _kind(tokenizer["model"])
    tokens = _model_tokens(tokenizer["model"])
    ids = {token: index for index, token in tokens.items()}
    added = {entry["id"] for entry in tokenizer["added_tokens"]}
    around = {*_ids_around(tokenizer["post_processor"])}
    unknown = tokenizer["model"].get("unk_token")
    fixed = {*wanted, *added, *around, *([ids[unknown]] if unknown in ids else [])}
    pieces = kind.needed(tokenizer["model"], {tokens[index] for index in fixed if index in tokens})
    new_ids = {old: new for new, old in enumerate(sorted(fixed | {ids[piece] for piece in pieces}))}
    smaller = tokenizer | {
        "model": kind.cut(tokenizer["model"], new_ids),
        "added_tokens": [entry | {"id": new_ids[entry["id"]]} for entry in tokenizer["added_tokens"]],
        "post_processor": _renumbered(tokenizer["post_processor"], new_ids),
        # They are of the last call, and every call sets its own.
        "truncation": None,
        "padding": None,
    }
    return Trimmed(smaller, new_ids)


_CANNOT = "the vocabulary cannot be trimmed"


@dataclass(frozen=True)
class _Kind:
    """What is particular to one kind of vocabulary."""

    needed: Callable[[Content, set[str]], set[str]]
    """Of its model and the kept tokens: these, and the tokens that have to stay with them."""
    cut: Callable[[Content, dict[int, int]], Content]
    """Of its model and the new id of each kept old one: the smaller model."""


def _kind(model: Content) -> _Kind:
    if model["type"] not in _KINDS:
        raise UserError(f"{_CANNOT}: the tokenizer is a {model['type']} model, and known are {', '.join(_KINDS)}")
    return _KINDS[model["type"]]


def _model_tokens(model: Content) -> dict[int, str]:
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        return {index: token for token, index in vocabulary.items()}
    return {index: token for index, (token, _) in enumerate(vocabulary)}


def _needed_word_pieces(model: Content, kept: set[str]) -> set[str]:
    """The longest piece is taken first: one that stays is found as before, and single characters end every search."""
    prefix = model["continuing_subword_prefix"]

    def characters(piece: str) -> list[str]:
        inside = piece.removeprefix(prefix) or piece
        first = piece[: len(piece) - len(inside) + 1]
        return [first, *(prefix + character for character in inside[1:])]

    return kept | _not_spelled_by_others(model["vocab"].keys(), characters)


def _needed_unigrams(model: Content, kept: set[str]) -> set[str]:
    """The best-scored split stays the best of those that are left; an unknown character scores by the lowest piece."""
    vocabulary = dict(map(tuple, model["vocab"]))
    unknown = [model["vocab"][model["unk_id"]][0]] if model["unk_id"] is not None else []
    fallback = {f"<0x{byte:02X}>" for byte in range(256)} & vocabulary.keys() if model["byte_fallback"] else set()
    lowest = min(vocabulary, key=vocabulary.__getitem__)
    return {*kept, *unknown, *fallback, lowest} | _not_spelled_by_others(vocabulary.keys(), list)


def _not_spelled_by_others(pieces: Iterable[str], characters: Callable[[str], list[str]]) -> set[str]:
    """The pieces of one character, and those with a character that is no piece itself."""
    known = {*pieces}
    spelled = {piece: characters(piece) for piece in known}
    return {piece for piece, single in spelled.items() if len(single) == 1 or not known.issuperset(single)}


def _needed_merges(model: Content, kept: set[str]) -> set[str]:
    """A token is reached by its merges, so their parts stay, too; what no merge makes is what every word starts as."""
    parts: dict[str, set[str]] = {}
    for left, right in model["merges"]:
        parts.setdefault(_merged(model, left, right), set()).update((left, right))
    needed = model["vocab"].keys() - parts.keys()
    waiting = [*kept]
    while waiting:
        token = waiting.pop()
        if token not in needed:
            needed.add(token)
            waiting.extend(parts[token])
    return needed


def _cut_words(model: Content, new_ids: dict[int, int]) -> Content:
    return model | {"vocab": {token: new_ids[old] for token, old in model["vocab"].items() if old in new_ids}}


def _cut_unigrams(model: Content, new_ids: dict[int, int]) -> Content:
    vocabulary = [entry for index, entry in enumerate(model["vocab"]) if index in new_ids]
    return model | {"vocab": vocabulary, "unk_id": new_ids.get(model["unk_id"])}


def _cut_merges(model: Content, new_ids: dict[int, int]) -> Content:
    smaller = _cut_words(model, new_ids)
    tokens = smaller["vocab"].keys()
    merges = [pair for pair in model["merges"] if tokens >= {*pair, _merged(model, *pair)}]
    return smaller | {"merges": merges}


def _merged(model: Content, left: str, right: str) -> str:
    return left + right[len(model["continuing_subword_prefix"] or "") :]


_KINDS = {
    "WordPiece": _Kind(_needed_word_pieces, _cut_words),
    "BPE": _Kind(_needed_merges, _cut_merges),
    "Unigram": _Kind(_needed_unigrams, _cut_unigrams),
}


def _ids_around(processor: Content | None) -> list[int]:
    """The ids that a post-processor puts around a text."""
    if processor is None:
        return []
    match processor:
        case {"type": "Sequence", "processors": several}:
            return [index for one in several for index in _ids_around(one)]
        case {"type": "BertProcessing" | "RobertaProcessing", "sep": [_, end], "cls": [_, start]}:
            return [end, start]
        case {"type": "TemplateProcessing", "special_tokens": special}:
            return [index for token in special.values() for index in token["ids"]]
        case {"type": "ByteLevel"}:
            return []
    raise UserError(f"{_CANNOT}: the tokenizer's post-processor {processor['type']} is not known")


def _renumbered(processor: Content | None, new_ids: dict[int, int]) -> Content | None:
    """A post-processor that `_ids_around` knows, with new ids."""
    if processor is None:
        return None
    match processor:
        case {"type": "Sequence", "processors": several}:
            return processor | {"processors": [_renumbered(one, new_ids) for one in several]}
        case {"type": "BertProcessing" | "RobertaProcessing", "sep": [sep, end], "cls": [cls, start]}:
            return processor | {"sep": [sep, new_ids[end]], "cls": [cls, new_ids[start]]}
        case {"type": "TemplateProcessing", "special_tokens": special}:
            renumbered = {
                name: token | {"ids": [new_ids[index] for index in token["ids"]]} for name, token in special.items()
            }
            return processor | {"special_tokens": renumbered}
    return processor


def _rebuilt(tokenizer: "PreTrainedTokenizerBase", trimmed: Trimmed) -> "PreTrainedTokenizerBase":
    """A tokenizer like `tokenizer` on the trimmed vocabulary; UserError unless every token has the id of its row."""
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(json.dumps(trimmed.tokenizer))
    options = {name: value for name, value in tokenizer.init_kwargs.items() if not name.endswith("_file")}
    options.pop("added_tokens_decoder", None)
    smaller: PreTrainedTokenizerBase = type(tokenizer)(tokenizer_object=backend, **options)
    new_ids = trimmed.new_ids
    expected = {token: new_ids[old] for token, old in tokenizer.get_vocab().items() if old in new_ids}
    if smaller.get_vocab() != expected:
        raise UserError(f"{_CANNOT}: the ids of the tokenizer are not those of its tokenizer.json")
    return smaller


def _ids_of(model: "PreTrainedModel") -> set[int]:
    """The ids that the model's config names, and those before the padding where positions are counted from it."""
    config = model.config
    before_padding = range(config.pad_token_id) if architectures.of(model).positions_after_padding else ()
    return {index for index in (*ids_named(config.to_dict()), *before_padding) if index < config.vocab_size}


def ids_named(config: Content) -> set[int]:
    """The ids that a config names: `…_token_id`, one or several."""
    values = [value for name, value in config.items() if name.endswith("_token_id") and value is not None]
    return {index for value in values for index in (value if isinstance(value, list) else [value])}


def with_new_ids(config: Content, new_ids: dict[int, int]) -> Content:
    """A config that names the kept tokens by their new ids."""

    def renumbered(value: Any) -> Any:
        return [*map(renumbered, value)] if isinstance(value, list) else new_ids.get(value, value)

    return {name: renumbered(value) if name.endswith("_token_id") else value for name, value in config.items()}


def _cut_embedding(model: "PreTrainedModel", new_ids: dict[int, int]) -> None:
    """Keep these rows of the word embedding and of the head that scores words, and renumber the config's ids."""
    import torch

    rows = [*new_ids]

    def kept(weight: torch.Tensor) -> torch.nn.Parameter:
        return torch.nn.Parameter(weight.detach()[rows], requires_grad=False)

    embedding, head, config = model.get_input_embeddings(), model.get_output_embeddings(), model.config
    tied = head is not None and head.weight is embedding.weight
    embedding.weight = kept(embedding.weight)
    if head is not None:
        head.weight, head.out_features = embedding.weight if tied else kept(head.weight), len(rows)
    embedding.num_embeddings = config.vocab_size = len(rows)
    embedding.padding_idx = new_ids.get(embedding.padding_idx)
    named = {name: value for name, value in config.to_dict().items() if name.endswith("_token_id")}
    for name, value in with_new_ids(named, new_ids).items():
        setattr(config, name, value)
