"""Tokenizer and model: what the one gives is what the other takes, or is refused before anything is trained."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers import models as vocabularies
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertTokenizerFast,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from dsee_compress import architectures, pretrained, tasks
from dsee_compress.errors import UserError
from dsee_compress.tasks import Spec

from ..fixtures import decoders, models

TASK = Spec(data="", text=["text"], label="label", labels=["bad", "good"], max_length=32)
NAMES = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
PAIR = ("the film was", "a story about people")


def word_pieces(**changes: Any) -> PreTrainedTokenizerBase:
    """BERT's tokenizer as a bare tokenizer.json, whose options are all in tokenizer_config.json."""
    backend = models._word_piece(BertTokenizerFast).backend_tokenizer
    names = ["input_ids", "token_type_ids", "attention_mask"]
    options = {"model_max_length": 140, "model_input_names": names} | NAMES | changes
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, **{name: value for name, value in options.items() if value is not None}
    )


def without(name: str) -> PreTrainedTokenizerBase:
    return word_pieces(**{name: None})


def write(folder: Path, family: str, tokenizer: PreTrainedTokenizerBase, **changes: Any) -> Path:
    models.build(family, **changes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def examine(folder: Path, max_length: int = 32) -> pretrained.Examined:
    return pretrained.examine(str(folder), "classification", max_length)


def refused(folder: Path, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        examine(folder)
    assert sentence in str(error.value)


def change(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def logits(folder: Path, fed: dict[str, Any]) -> Any:
    """What transformers computes by itself."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        return model(**{name: torch.as_tensor(array) for name, array in fed.items()}).logits.numpy()


def batch(tokenizer: PreTrainedTokenizerBase, *pairs: tuple[str, ...]) -> dict[str, Any]:
    """Pairs as the trainer and every later stage give them to the model."""
    return tasks.get("classification").collator(tokenizer)([dict(tokenizer(*pair)) for pair in pairs])


def test_a_roberta_whose_tokenizer_gives_types_to_pairs(tmp_path):
    """As klue/roberta-base: one token type, and word pieces of a BERT, whose second text is type 1."""
    folder = write(tmp_path / "model", "roberta", models._word_piece(BertTokenizerFast), pad_token_id=0)
    found = examine(folder)
    assert "gives token types, and the model has one; 0 is fed throughout" in found.notes[0]
    fed = batch(found.tokenizer, PAIR, ("the", "film"))
    assert [*fed] == ["input_ids", "attention_mask"]
    zeros = torch.zeros_like(fed["input_ids"])
    np.testing.assert_array_equal(logits(folder, fed), logits(folder, {**fed, "token_type_ids": zeros}))
    found.tokenizer.save_pretrained(tmp_path / "saved")
    assert [*AutoTokenizer.from_pretrained(tmp_path / "saved")(*PAIR)] == ["input_ids", "attention_mask"]


def test_a_distilbert_whose_tokenizer_gives_types(tmp_path):
    folder = write(tmp_path / "model", "distilbert", models._word_piece(BertTokenizerFast))
    found = examine(folder)
    assert logits(folder, batch(found.tokenizer, PAIR)).shape == (1, 2)


def test_a_tokenizer_without_a_mask_gives_one(tmp_path):
    folder = write(tmp_path / "model", "bert", word_pieces(model_input_names=["input_ids"]))
    fed = batch(examine(folder).tokenizer, PAIR, ("the", "film"))
    assert fed["attention_mask"][1].tolist() == [1, 1, 1, 1, 1] + [0] * (fed["input_ids"].shape[1] - 5)


def test_more_token_types_than_the_model_has(tmp_path):
    """A third type, as XLNet's tokenizer gives its last token."""
    tokenizer = word_pieces()
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    special = {name: {"id": name, "ids": [index], "tokens": [name]} for name, index in (("[CLS]", 2), ("[SEP]", 3))}
    single = [{"SpecialToken": {"id": "[CLS]", "type_id": 2}}, {"Sequence": {"id": "A", "type_id": 0}}]
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}]
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": pair,
        "special_tokens": special,
    }
    tokenizer = word_pieces()
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(content))
    refused(write(tmp_path / "a", "bert", tokenizer), "gives token types up to 2, and the model has 2")
    assert examine(write(tmp_path / "b", "bert", tokenizer, type_vocab_size=3)).notes == []


def test_a_model_with_one_type_is_fed_none(tmp_path):
    folder = write(tmp_path / "model", "bert", word_pieces(), type_vocab_size=1)
    assert [*batch(examine(folder).tokenizer, PAIR)] == ["input_ids", "attention_mask"]


def test_a_type_of_padding_that_the_model_has_not(tmp_path):
    folder = write(tmp_path / "model", "bert", word_pieces(pad_token_type_id=3))
    fed = batch(examine(folder).tokenizer, PAIR, ("the", "film"))
    assert logits(folder, fed).shape == (2, 2)


def test_positions_of_a_roberta_are_counted_from_its_own_padding_id(tmp_path):
    folder = write(tmp_path / "model", "roberta", word_pieces(), pad_token_id=1)
    found = examine(folder)
    assert (found.config.pad_token_id, found.tokenizer.pad_token_id) == (1, 0)
    assert "padding is token 0, and positions are counted by the config's pad_token_id 1" in found.notes[0]
    model, tokenizer = pretrained.load(str(folder), TASK, seed=0)
    single, padded = (batch(tokenizer, *pairs) for pairs in ([PAIR], [PAIR, ("the film " * 9, "was")]))
    encoder = model.roberta.eval()
    with torch.inference_mode():
        alone, beside = (encoder(**fed).last_hidden_state[0] for fed in (single, padded))
    torch.testing.assert_close(alone, beside[: len(alone)], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family, padding", [("bert", 0), ("roberta", 1)])
def test_padding_at_the_start_goes_to_the_end_where_it_moves_no_position(tmp_path, family, padding):
    """A text alone and the same beside a longer one are the same to the model."""
    folder = write(tmp_path / "model", family, word_pieces(padding_side="left"), pad_token_id=padding)
    assert "it pads at the end here" in examine(folder).notes[0]
    model, tokenizer = pretrained.load(str(folder), TASK, seed=0)
    single, padded = (batch(tokenizer, *pairs) for pairs in ([PAIR], [PAIR, ("the film " * 9, "was")]))
    with torch.inference_mode():
        alone, beside = (model.eval().base_model(**fed).last_hidden_state[0] for fed in (single, padded))
    torch.testing.assert_close(alone, beside[: len(alone)], atol=1e-5, rtol=0)


@pytest.mark.parametrize("padding, longest", [(0, 141), (1, 140), (3, 138)])
def test_tokens_that_a_roberta_reads_at_most(padding, longest):
    model = models.build("roberta", pad_token_id=padding)
    assert architectures.longest_input(model.config) == longest
    ids = torch.full((1, longest), 5)
    assert model(input_ids=ids).logits.isfinite().all()
    with pytest.raises((IndexError, RuntimeError), match="out of"):
        model(input_ids=torch.full((1, longest + 1), 5))


@pytest.mark.parametrize("padding", [None, -1, 141, 600])
def test_a_padding_id_from_which_no_position_is_counted(pretrained_folders, tmp_path, padding):
    folder = Path(shutil.copytree(pretrained_folders["roberta"], tmp_path / "model"))
    change(folder / "config.json", pad_token_id=padding)
    refused(folder, f"counts positions from its pad_token_id, and that is {padding}")


def test_a_tokenizer_without_a_padding_token_takes_the_configs(tmp_path):
    found = examine(write(tmp_path / "model", "bert", without("pad_token")))
    assert (found.tokenizer.pad_token, found.tokenizer.pad_token_id) == ("[PAD]", 0)
    assert "names no padding token; '[PAD]', the config's pad_token_id, is taken" in found.notes[0]


@pytest.mark.parametrize("padding", [None, 7, 400])
def test_no_padding_token_anywhere(tmp_path, padding):
    """Token 7 is a word, and 400 is none."""
    folder = write(tmp_path / "model", "bert", without("pad_token"), pad_token_id=padding)
    refused(folder, f"has no padding token, nor has it one for the config's pad_token_id {padding}")


def test_a_vocabulary_without_a_token_for_unknown_words(tmp_path):
    tokenizer = word_pieces()
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    content["model"]["unk_token"] = "[NONE]"
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(content))
    refused(write(tmp_path / "model", "bert", tokenizer), "has no token for unknown words (WordPiece error: Missing")


def test_a_vocabulary_that_leaves_out_unknown_words(tmp_path):
    backend = Tokenizer(vocabularies.BPE({"[PAD]": 0, "[CLS]": 1, "a": 2, "b": 3, "ab": 4}, [("a", "b")]))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", cls_token="[CLS]")
    refused(write(tmp_path / "model", "bert", tokenizer), "no token for unknown words, and leaves them out of a text")


def test_a_token_beyond_the_vocabulary(tmp_path):
    """The number of tokens is smaller than the model's: one of them has a large id."""
    folder = write(tmp_path / "model", "bert", word_pieces())
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["lovely"] = 500
    (folder / "tokenizer.json").write_text(json.dumps(content))
    refused(folder, "has 'lovely' as token 500, and the model knows 500 tokens; they do not belong together")


def test_a_tokenizer_without_special_tokens_is_told(tmp_path):
    tokenizer = word_pieces()
    content = json.loads(tokenizer.backend_tokenizer.to_str()) | {"post_processor": None}
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(content))
    notes = examine(write(tmp_path / "model", "bert", tokenizer)).notes
    assert "puts no special tokens around a text" in notes[-1]


def test_a_tokenizer_that_cuts_earlier_is_told(tmp_path):
    folder = write(tmp_path / "model", "bert", word_pieces(model_max_length=20))
    assert "cuts texts at 20 tokens, and they are cut at max_length 32 here" in examine(folder).notes[0]
    assert examine(folder, max_length=20).notes == []


@pytest.mark.parametrize(
    "entries, sentence",
    [
        ({"position_embedding_type": "relative_key"}, "has 'relative_key' positions (position_embedding_type)"),
        ({"is_decoder": True}, "is a decoder (is_decoder), and its family is exported as an encoder alone"),
        ({"is_decoder": True, "add_cross_attention": True}, "attends to an encoder (add_cross_attention)"),
        ({"pruned_heads": {"0": [1]}}, "has pruned_heads in its config"),
        ({"hidden_act": "relu"}, "has 'relu' in its FFN; gelu alone"),
    ],
)
def test_a_config_that_cannot_be_exported(bert, tmp_path, entries, sentence):
    folder = Path(shutil.copytree(bert, tmp_path / "model"))
    change(folder / "config.json", **entries)
    refused(folder, sentence)


def test_a_family_that_counts_positions_from_one_token_whatever_its_config_says(pretrained_folders, tmp_path):
    folder = Path(shutil.copytree(pretrained_folders["mpnet"], tmp_path / "model"))
    change(folder / "config.json", pad_token_id=0)
    refused(folder, "has 0 as pad_token_id in its config, and models of its family count positions from token 1")


def test_rotary_positions_that_depend_on_the_length(tmp_path):
    folder = decoders.write_model("llama", tmp_path / "model")
    change(folder / "config.json", rope_scaling={"rope_type": "dynamic", "factor": 2.0})
    with pytest.raises(UserError, match="has rope_scaling that depends on a text's length"):
        pretrained.examine(str(folder), "generation", 32)


def test_how_a_config_wants_the_model_to_answer_does_not_count(bert, tmp_path):
    folder = Path(shutil.copytree(bert, tmp_path / "model"))
    change(folder / "config.json", return_dict=False, output_hidden_states=True, chunk_size_feed_forward=3)
    model, tokenizer = pretrained.load(str(folder), TASK, seed=0)
    wanted, _ = pretrained.load(str(bert), TASK, seed=0)
    fed = batch(tokenizer, ("the film",))
    with torch.inference_mode():
        torch.testing.assert_close(model(**fed).logits, wanted(**fed).logits, atol=1e-6, rtol=0)
    assert model.config.chunk_size_feed_forward == 0


@pytest.mark.parametrize("family", models.FAMILIES)
def test_what_fits_is_left_as_it_is(pretrained_folders, family):
    found, before = examine(pretrained_folders[family]), AutoTokenizer.from_pretrained(pretrained_folders[family])
    assert found.notes == []
    assert found.tokenizer.model_input_names == before.model_input_names
    assert found.tokenizer.init_kwargs == before.init_kwargs
