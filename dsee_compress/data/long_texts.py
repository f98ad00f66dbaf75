"""Texts far longer than a model reads, cut before they are tokenised; what is left of them is read as before.

A tokenizer splits a whole text and cuts its tokens afterwards, in a time and memory that grow with the text, and of a
pair with the product of both.
"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHARACTERS = 64
"""A text of more than so many characters a token of `max_length` is cut."""
_RUNS = (" {2,}", r"\s{2,}|[\n\r\t]")
"""Patterns of white space that normalizers make one space, as transformers writes them."""
_PIECE = 100_000
"""Characters of a text whose tokens are counted at a time."""


def shorten(
    texts: list[list[str]], max_length: int, tokenizer: "PreTrainedTokenizerBase", characters: int = _CHARACTERS
) -> list[list[str]]:
    """The columns of a batch with long texts cut, so that they give the same tokens when cut to `max_length`.

    They come back as they are where the tokenizer is not known to split at spaces.
    """
    longest = characters * max_length
    if all(len(text) <= longest for column in texts for text in column) or not _splits_at_spaces(tokenizer):
        return texts
    rows = [[_Text(text, longest, max_length, tokenizer) for text in row] for row in zip(*texts, strict=True)]
    for first, *others in rows:
        for second in others:
            _keep_order(first, second, max_length)
    return [[text.head for text in column] for column in zip(*rows, strict=True)]


class _Text:
    """A text, and a head of it that ends before a space, and so has the first tokens of the whole."""

    def __init__(self, text: str, longest: int, tokens: int, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._text, self._tokenizer, self._end = text, tokenizer, len(text)
        self.is_cut = False
        if len(text) > longest:
            self._end = _space(text, longest)
            while not self.is_whole and self.tokens <= tokens:
                self.grow()
            self.is_cut = not self.is_whole

    @property
    def head(self) -> str:
        return self._text[: self._end]

    @property
    def is_whole(self) -> bool:
        return self._end == len(self._text)

    @property
    def tokens(self) -> int:
        """Of the head, without special ones."""
        return sum(map(self._count, _pieces(self.head)))

    @property
    def all_tokens(self) -> int:
        return sum(map(self._count, _pieces(self._text)))

    def grow(self) -> None:
        self._end = _space(self._text, 2 * self._end)

    def _count(self, piece: str) -> int:
        return len(self._tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"])


def _keep_order(first: _Text, second: _Text, max_length: int) -> None:
    """Grow a head until the first has more tokens than the second only if it has in whole.

    Of a pair in which both are too long, the one with more tokens keeps one more where their number is odd.
    """
    if not (first.is_cut or second.is_cut) or min(first.tokens, second.tokens) <= max_length:
        return
    is_longer = first.all_tokens > second.all_tokens
    while (first.tokens > second.tokens) != is_longer:
        (first if is_longer else second).grow()


def _pieces(text: str) -> Iterator[str]:
    """A text in pieces that have the tokens of the whole."""
    start = 0
    while start < len(text):
        end = _space(text, start + _PIECE)
        yield text[start:end]
        start = end


def _space(text: str, start: int) -> int:
    """Where the first space from `start` on stands that follows a letter or digit; the end, if there is none."""
    while (found := text.find(" ", start)) > 0:
        if text[found - 1].isalnum():
            return found
        start = found + 1
    return len(text)


def _splits_at_spaces(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether a space after a letter or digit always begins new tokens, whatever follows and stands before it.

    So it is if no added token holds a space, the normalizer changes characters one by one (or runs of spaces), and
    the pre-tokenizer begins by splitting at spaces.
    """
    if not tokenizer.is_fast or tokenizer.truncation_side != "right":
        return False
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    return (
        not any(character.isspace() for token in content["added_tokens"] for character in token["content"])
        and all(map(_is_local, _steps(content["normalizer"], "normalizers")))
        and any(map(_splits, _steps(content["pre_tokenizer"], "pretokenizers")[:1]))
    )


def _steps(part: dict[str, Any] | None, several: str) -> list[dict[str, Any]]:
    if part is None:
        return []
    if part["type"] != "Sequence":
        return [part]
    return [step for own in part[several] for step in _steps(own, several)]


def _is_local(normalizer: dict[str, Any]) -> bool:
    if normalizer["type"] == "Replace":
        pattern = normalizer["pattern"]
        return pattern.get("Regex") in _RUNS or " " not in pattern.get("String", " ")
    return normalizer["type"] in _LOCAL


def _splits(pre_tokenizer: dict[str, Any]) -> bool:
    option = _SPLITTING.get(pre_tokenizer["type"], False)
    return pre_tokenizer.get(option, True) if isinstance(option, str) else option


_LOCAL = {
    *("BertNormalizer", "Lowercase", "StripAccents", "Strip", "Precompiled"),
    *("NFC", "NFD", "NFKC", "NFKD"),
}
_SPLITTING: dict[str, bool | str] = {
    "BertPreTokenizer": True,
    "Whitespace": True,
    "WhitespaceSplit": True,
    "ByteLevel": "use_regex",
    "Metaspace": "split",
}
"""Pre-tokenizers that split at spaces, or the option that says whether they do."""
