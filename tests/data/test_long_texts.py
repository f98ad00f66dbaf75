"""Long texts are cut before they are tokenised, and nobody can tell from their tokens."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from dsee_compress.data import long_texts

from ..fixtures import models

WORDS = [
    "the",
    "film",
    "warm,",
    "it's",
    "x",
    "élan",
    "42",
    "…",
    "  ",
    "\n",
    "ﷺ",
    "中文",
    "<mask>",
    "[SEP]",
    "\u200b",
    "e\u0301",
]


@pytest.fixture(scope="module")
def tokenizers(pretrained_folders, tmp_path_factory):
    folders = [pretrained_folders[family] for family in ("bert", "roberta", "deberta-v3")]
    return [
        AutoTokenizer.from_pretrained(folder)
        for folder in (*folders, models.write_gpt2(tmp_path_factory.mktemp("gpt2")))
    ]


def text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(WORDS, k=words)) + " film" * draw.randrange(3)


@pytest.mark.parametrize("columns", [1, 2])
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), max_length=st.integers(8, 20))
def test_the_tokens_are_those_of_the_whole_texts(tokenizers, columns, seed, max_length):
    draw = random.Random(seed)
    texts = [[text(draw, draw.choice([0, 3, 12, 40, 40])) for _ in range(6)] for _ in range(columns)]
    for tokenizer in tokenizers:
        short = long_texts.shorten(texts, max_length, tokenizer, characters=1)
        options = {"truncation": True, "max_length": max_length}
        assert tokenizer(*short, **options)["input_ids"] == tokenizer(*texts, **options)["input_ids"]


def test_long_texts_become_short(tokenizers):
    texts = [["the film was warm " * 20_000, "a film"], ["it was a film " * 10_000, "a town"]]
    for tokenizer in tokenizers:
        assert long_texts._splits_at_spaces(tokenizer)
        short = long_texts.shorten(texts, 16, tokenizer)
        assert max(map(len, short[0])) < 10_000 and short[0][1] == "a film"


def test_a_tokenizer_that_reads_across_spaces_gets_the_whole_text(tokenizers):
    from tokenizers import pre_tokenizers

    texts = [["the film was warm " * 1000]]
    tokenizer = tokenizers[2]
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    assert long_texts.shorten(texts, 16, tokenizer) is texts
