"""Words, the piece that each is read at, and entities of tags."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.scheme import IOB2, Entities
from transformers import AutoTokenizer

from dsee_compress.runtime import tagging

TAGS = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-A-B", "I-A-B"])


@given(st.lists(TAGS, min_size=1, max_size=12))
def test_entities_are_those_of_seqeval_in_strict_iob2(tags):
    (theirs,) = Entities([tags], IOB2).entities
    assert tagging.entities(tags) == [(found.start, found.end, found.tag) for found in theirs]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("John's in York-upon-Ouse.", ["John", "'", "s", "in", "York", "-", "upon", "-", "Ouse", "."]),
        ("  3.5%\ta_b\n", ["3", ".", "5", "%", "a_b"]),
        ("住在北京 ok カタ", ["住", "在", "北", "京", "ok", "カ", "タ"]),
        ("naïve Ångström Привет", ["naïve", "Ångström", "Привет"]),
        (" \n", []),
    ],
)
def test_words(text, words):
    assert [text[start:end] for start, end in tagging.words(text)] == words


def windows_of(tokenizer, text: str, max_length: int) -> list[list[tuple[int, int]]]:
    return tokenizer(
        text,
        truncation=True,
        max_length=max_length,
        stride=max_length // 4,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )["offset_mapping"]


@given(text=st.text(st.sampled_from("lovely dreary film's Zizzi . 北 "), max_size=120), length=st.integers(8, 40))
def test_each_word_is_read_once_at_a_piece_of_it_and_none_is_lost_between_windows(pretrained_folders, text, length):
    for family in ("bert", "roberta", "deberta-v3"):
        tokenizer = AutoTokenizer.from_pretrained(pretrained_folders[family])
        words, windows = tagging.words(text), windows_of(tokenizer, text, length)
        (whole,) = windows_of(tokenizer, text, 10_000)
        for word, place, alone in zip(
            words, tagging.first_pieces(words, windows), tagging.first_pieces(words, [whole]), strict=True
        ):
            assert (place is None) == (alone is None)
            if place is not None:
                start, end = windows[place[0]][place[1]]
                assert start < word[1] and end > word[0]
                assert whole[alone[1]][0] <= word[0] or not any(s <= word[0] < e for s, e in whole)


def test_a_word_is_read_in_the_window_that_shows_most_around_it():
    words = [(index, index + 1) for index in range(10)]
    windows = [[(0, 0), *words[:6], (0, 0)], [(0, 0), *words[4:], (0, 0)]]
    assert tagging.first_pieces(words, windows) == [
        *((0, index + 1) for index in range(5)),
        *((1, index - 3) for index in range(5, 10)),
    ]
    assert tagging.first_pieces([(0, 1), (50, 51)], windows) == [(0, 1), None]


def test_of_a_word_in_pieces_the_first_is_read_and_words_may_share_one():
    assert tagging.first_pieces([(0, 4)], [[(0, 2), (2, 4)]]) == [(0, 0)]
    assert tagging.first_pieces([(0, 1), (1, 2)], [[(0, 2), (2, 2)]]) == [(0, 0), (0, 0)]
