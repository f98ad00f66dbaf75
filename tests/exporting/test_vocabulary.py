"""Trimmed vocabularies: what stays is read as before, and everything else is still read."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.processors import BertProcessing, ByteLevel, Sequence
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from dsee_compress.errors import UserError
from dsee_compress.exporting import vocabulary

from ..fixtures import models as fixtures

LETTERS = "abcd"
PIECES = st.lists(st.text(LETTERS, min_size=2, max_size=5), max_size=12, unique=True)
TEXTS = st.lists(st.text(LETTERS + "z", min_size=1, max_size=12), max_size=5).map(" ".join)
"""No vocabulary here knows z."""
CORPUS = [
    "a gentle film about clever people in a cold town",
    "the story felt rather clumsy, and the town was warmer than its people",
    "superbly told, brightly lit, lovelier than any other film of that gentler kind",
]


@st.composite
def word_pieces(draw):
    inside = draw(PIECES)
    pieces = ["[UNK]", *LETTERS, *(f"##{letter}" for letter in LETTERS), *draw(PIECES), *(f"##{one}" for one in inside)]
    order = draw(st.permutations(list(dict.fromkeys(pieces))))
    return Tokenizer(models.WordPiece({piece: index for index, piece in enumerate(order)}, unk_token="[UNK]"))


@st.composite
def merges(draw):
    tokens, pairs = [*LETTERS], []
    for _ in range(draw(st.integers(0, 12))):
        pair = draw(st.tuples(st.sampled_from(tokens), st.sampled_from(tokens)))
        if pair not in pairs:
            pairs.append(pair)
            tokens.append("".join(pair))
    order = draw(st.permutations(["[UNK]", *dict.fromkeys(tokens)]))
    vocabulary = {token: index for index, token in enumerate(order)}
    return Tokenizer(models.BPE(vocabulary, pairs, unk_token="[UNK]"))


@st.composite
def unigrams(draw):
    pieces = draw(st.permutations(["[UNK]", *LETTERS, *draw(PIECES)]))
    scores = draw(st.lists(st.sampled_from([-1.0, -2.0, -2.5, -7.0]), min_size=len(pieces), max_size=len(pieces)))
    return Tokenizer(models.Unigram([*zip(pieces, scores, strict=True)], unk_id=pieces.index("[UNK]")))


@pytest.mark.parametrize("tokenizers", [word_pieces(), merges(), unigrams()], ids=["WordPiece", "BPE", "Unigram"])
def test_what_stays_is_read_as_before_and_all_else_is_still_read(tokenizers):
    @given(tokenizers, TEXTS, st.lists(TEXTS, max_size=8))
    def holds(tokenizer, kept, texts):
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        wanted = {*tokenizer.encode(kept).ids}
        trimmed = vocabulary.cut(json.loads(tokenizer.to_str()), wanted)
        smaller = Tokenizer.from_str(json.dumps(trimmed.tokenizer))
        rows = [*trimmed.new_ids]
        assert wanted <= {*rows} and rows == sorted(rows)
        assert smaller.get_vocab_size() == len(rows)
        for text in [kept, *texts]:
            before, after = tokenizer.encode(text), smaller.encode(text)
            assert (smaller.token_to_id("[UNK]") in after.ids) == ("z" in text)
            if {*before.ids} <= {*rows}:
                assert [rows[index] for index in after.ids] == before.ids

    holds()


def test_the_unknown_costs_as_much_as_before():
    """Its score is that of the lowest piece, and less. Here q is known inside another piece alone."""
    scores = {"[UNK]": 0.0, "z": -15.0, "a": -1.0, "za": -1.0, "aq": -15.0, "aa": -20.0}
    tokenizer = Tokenizer(models.Unigram([*scores.items()], unk_id=0))
    assert tokenizer.encode("zaq").tokens == ["z", "aq"]
    kept = [tokenizer.token_to_id(piece) for piece in ("z", "a", "za", "aq")]
    trimmed = vocabulary.cut(json.loads(tokenizer.to_str()), kept)
    assert Tokenizer.from_str(json.dumps(trimmed.tokenizer)).encode("zaq").tokens == ["z", "aq"]


def trained(family: str):
    """A tokenizer of the family's own kind that learned its pieces from the corpus, letters and all."""
    template = fixtures._TOKENIZERS[family]()
    backend = template.backend_tokenizer
    special = [token.content for token in template.added_tokens_decoder.values()]
    empty, trainer = {
        "BPE": (models.BPE(), trainers.BpeTrainer),
        "Unigram": (models.Unigram(), trainers.UnigramTrainer),
        "WordPiece": (models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer),
    }[json.loads(backend.to_str())["model"]["type"]]
    options = {"unk_token": "[UNK]"} if trainer is trainers.UnigramTrainer else {}
    if trainer is trainers.BpeTrainer:
        options = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
    elif trainer is trainers.WordPieceTrainer:
        options = {"continuing_subword_prefix": "##"}
    backend.model = empty
    backend.train_from_iterator(
        CORPUS * 3, trainer(vocab_size=480, special_tokens=special, show_progress=False, **options)
    )
    return template


@pytest.fixture
def saved(family, tmp_path):
    """A model and its tokenizer as a stage reads them."""
    trained(family).save_pretrained(tmp_path / "before")
    return fixtures.build(family), AutoTokenizer.from_pretrained(tmp_path / "before")


def test_a_familys_tokenizer_and_embedding_are_cut_together(saved, tmp_path):
    model, tokenizer = saved
    rows = model.config.vocab_size
    kept, others = CORPUS[0], CORPUS[1:]
    before = tokenizer(kept, return_tensors="pt")
    with torch.inference_mode():
        wanted_logits = model(**before).logits
    smaller, new_ids = vocabulary.trim(model, tokenizer, before["input_ids"][0].tolist())
    old_ids = [*new_ids]
    smaller.save_pretrained(tmp_path / "after")
    assert len(old_ids) == model.config.vocab_size == len(model.get_input_embeddings().weight) < rows
    assert len(smaller) == len(old_ids) < len(tokenizer)

    reloaded = AutoTokenizer.from_pretrained(tmp_path / "after")
    for one in (smaller, reloaded):
        encoded = one(kept, return_tensors="pt")
        assert [old_ids[index] for index in encoded["input_ids"][0]] == before["input_ids"][0].tolist()
        with torch.inference_mode():
            assert torch.equal(model(**encoded).logits, wanted_logits)
        for name in ("pad", "cls", "sep", "mask", "unk"):
            assert old_ids[getattr(one, f"{name}_token_id")] == getattr(tokenizer, f"{name}_token_id")
        for text in others:
            assert one.unk_token_id not in one(text)["input_ids"]
            assert one.decode(one(text)["input_ids"]) == tokenizer.decode(tokenizer(text)["input_ids"])
    assert all(smaller.tokenize(text) != tokenizer.tokenize(text) for text in others)
    assert model.config.pad_token_id == smaller.pad_token_id
    assert {path.name for path in (tmp_path / "after").iterdir()} <= {
        path.name for path in (tmp_path / "before").iterdir()
    }


def test_padding_does_not_move_where_positions_are_counted_from_it(tmp_path):
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE({"b": 0, "ab": 1, "<pad>": 2, "a": 3}, [("a", "b")])), pad_token="<pad>"
    )
    model = fixtures.build("roberta", pad_token_id=2, bos_token_id=None, eos_token_id=None)
    tokens = vocabulary.trim(model, tokenizer, [])[0]
    assert tokens.pad_token_id == model.config.pad_token_id == 2


def test_what_is_around_a_text_is_renumbered():
    tokenizer = Tokenizer(models.WordPiece({"ab": 0, "a": 1, "b": 2, "##b": 3, "##a": 4, "[SEP]": 5, "[CLS]": 6}))
    tokenizer.post_processor = Sequence([ByteLevel(), BertProcessing(("[SEP]", 5), ("[CLS]", 6))])
    trimmed = vocabulary.cut(json.loads(tokenizer.to_str()), [])
    assert trimmed.new_ids == {1: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 5}
    smaller = Tokenizer.from_str(json.dumps(trimmed.tokenizer))
    assert smaller.encode("ab").tokens == ["[CLS]", "a", "##b", "[SEP]"]


def test_what_cannot_be_cut_is_said_in_one_sentence():
    with pytest.raises(UserError, match=r"cannot be trimmed: the tokenizer has no tokenizer.json; use a fast"):
        vocabulary.trim(fixtures.build("bert"), ByT5Tokenizer(), [5])
    words = Tokenizer(models.WordLevel({"a": 0}))
    with pytest.raises(UserError, match="is a WordLevel model, and known are WordPiece, BPE, Unigram"):
        vocabulary.cut(json.loads(words.to_str()), [0])
