"""The sample that makes a small GPT-2: what it writes, what it reads, and what it refuses."""

import json
import math
import random
import runpy
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

SCRIPT = Path(__file__).parents[2] / "samples" / "gpt2" / "pretrain.py"
SIZES = ["--layers", "2", "--width", "32", "--heads", "2", "--vocabulary", "300"]
pretrain = runpy.run_path(str(SCRIPT))["main"]


def run(text: Path | str, output: Path, minutes: str = "0.0001", seed: str = "0") -> Path:
    pretrain(["--text", str(text), "--output", str(output), "--minutes", minutes, "--seed", seed, *SIZES])
    return output


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    generator = random.Random(0)
    sentences = [
        f"{generator.choice(['The Mill', 'The Eagle'])} is a {generator.choice(['pub', 'café'])} by the river, {index}."
        for index in range(300)
    ]
    (folder / "train.txt").write_text("\n\n".join(sentences[:200]), encoding="utf-8")
    rows = [{"sentence": sentence, "label": 1} for sentence in sentences[200:]]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def made(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(text, tmp_path_factory.mktemp("made") / "gpt2", minutes="0.1")


def test_the_model_learns_more_than_that_all_tokens_are_as_likely(made):
    told = json.loads((made / "pretraining.json").read_text())
    vocabulary = AutoModelForCausalLM.from_pretrained(made).config.vocab_size
    assert told["loss"] < math.log(vocabulary)
    assert told["held_out_perplexity"]["all"]["alone"] < vocabulary
    assert told["texts"] == 297


def test_the_folder_loads_as_a_gpt2_whose_one_extra_token_begins_ends_and_pads(made):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(made), AutoTokenizer.from_pretrained(made)
    assert (model.config.model_type, model.config.activation_function) == ("gpt2", "gelu_new")
    assert model.config.vocab_size == len(tokenizer)
    assert {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token} == {"<|endoftext|>"}
    assert {model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id} == {tokenizer.pad_token_id}
    assert tokenizer.decode(tokenizer("Ünseen — words\n")["input_ids"]) == "Ünseen — words\n"


def test_the_loaded_model_is_the_one_that_was_measured(made, text):
    script = runpy.run_path(str(SCRIPT))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(made), AutoTokenizer.from_pretrained(made)
    held_out = script["split"]([str(text)], 0)[1]
    told = json.loads((made / "pretraining.json").read_text())["held_out_perplexity"]
    assert told.keys() == {"all", str(text)} and told["all"] == told[str(text)]
    assert told["all"]["alone"] == pytest.approx(perplexity(model, tokenizer, held_out), rel=1e-4)
    assert told["all"]["behind_phrases"] != pytest.approx(told["all"]["alone"], rel=1e-3)


def test_perplexity_is_told_of_each_source(made, text, tmp_path):
    script = runpy.run_path(str(SCRIPT))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(made), AutoTokenizer.from_pretrained(made)
    (tmp_path / "train.txt").write_text("\n\n".join(f"Of {number} words." for number in range(200)))
    held_out = script["split"]([str(text), str(tmp_path)], 0)[1]
    found = script["held_out_perplexity"](model, tokenizer, held_out, 0)
    assert found.keys() == {"all", str(text), str(tmp_path)}
    for source in found:
        mine = [text for text, where in held_out.items() if source in ("all", where)]
        assert mine and all(text.startswith("Of ") for text in mine if held_out[text] == str(tmp_path))
        assert found[source]["alone"] == pytest.approx(perplexity(model, tokenizer, mine), rel=1e-4)


def perplexity(model, tokenizer, texts) -> float:
    """As transformers' own loss has it."""
    losses, count = 0.0, 0
    for written in texts:
        tokens = torch.tensor([[*tokenizer(written)["input_ids"], tokenizer.eos_token_id]])
        losses += model(input_ids=tokens, labels=tokens).loss.item() * (tokens.numel() - 1)
        count += tokens.numel() - 1
    return math.exp(losses / count)


def test_the_same_seed_makes_the_same_tokenizer(made, text, tmp_path):
    again = run(text, tmp_path / "again")
    assert (again / "tokenizer.json").read_bytes() == (made / "tokenizer.json").read_bytes()


def test_a_prompt_is_of_phrases_of_the_text():
    phrases = runpy.run_path(str(SCRIPT))["phrases"]
    text = "a b c d e f g h i j k l m n o p q r s t"
    prompts = [phrases(text, random.Random(seed)) for seed in range(50)]
    assert len(set(prompts)) > 40
    for prompt in prompts:
        assert prompt.endswith("\n")
        found = prompt.strip().split(" | ")
        assert all(phrase in text and 1 <= len(phrase.split()) <= 4 for phrase in found)
        assert len(set(found)) == len(found) and 0 < sum(len(phrase.split()) for phrase in found) < 20
    assert phrases("one", random.Random(0)) == "one\n"


def test_every_text_is_learnt_once_a_round_and_most_stand_behind_a_prompt(made):
    script, tokenizer = runpy.run_path(str(SCRIPT)), AutoTokenizer.from_pretrained(made)
    texts = [f"{index} is a pub" for index in range(200)]
    endless = script["documents"](tokenizer, texts, seed=0)
    first, second = ([next(endless) for _ in texts] for _ in range(2))
    for documents in (first, second):
        learnt = [labels[labels != -100].tolist() for _, labels in documents]
        assert {tokens[-1] for tokens in learnt} == {tokenizer.eos_token_id}
        assert sorted(tokenizer.decode(tokens[:-1]) for tokens in learnt) == sorted(texts)
        for tokens, labels in documents:
            assert torch.equal(tokens[labels != -100], labels[labels != -100])
            assert (labels != -100).int().diff().ge(0).all()
        assert 130 < sum((labels == -100).any().item() for _, labels in documents) < 190
    assert [document.tolist() for document in first] != [document.tolist() for document in second]


def test_a_row_begins_with_a_text_and_is_full():
    script = runpy.run_path(str(SCRIPT))
    endless = iter(torch.tensor([[index] + [0] * 40] * 2) for index in range(1, 10000))
    batches = script["batches"](endless)
    shapes = []
    for _ in range(4):
        tokens, labels = next(batches)
        assert torch.equal(tokens, labels) and (tokens[:, 0] > 0).all()
        shapes.append(tuple(tokens.shape))
    assert shapes == [(8, 128)] * 3 + [(2, 512)]


def test_the_loss_is_that_of_transformers_on_the_texts_alone(made):
    script, model = runpy.run_path(str(SCRIPT)), AutoModelForCausalLM.from_pretrained(made)
    rows = torch.randint(0, model.config.vocab_size, (3, 20), generator=torch.Generator().manual_seed(0))
    labels = rows.masked_fill(torch.arange(20) < 7, -100)
    found = script["cross_entropy"](model, torch.stack([rows, labels]))
    assert found.shape == (3 * 13,)
    assert found.mean().item() == pytest.approx(model(input_ids=rows, labels=labels).loss.item(), rel=1e-5)


def test_validation_and_test_files_and_other_columns_are_not_read(tmp_path):
    (tmp_path / "validation.jsonl").write_text("not read")
    (tmp_path / "test.txt").write_text("not read")
    (tmp_path / "train.jsonl").write_text('{"source": "a", "target": "b"}\n\n{"source": "c", "target": "d", "n": 1}\n')
    read_texts = runpy.run_path(str(SCRIPT))["read_texts"]
    assert read_texts(str(tmp_path)) == ["a", "b", "c", "d"]
    assert read_texts(f"{tmp_path}:target") == ["b", "d"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("train.txt", " \n\n ", "holds no text"),
        ("test.txt", "one\n\ntwo", "holds no text"),
        ("train.txt", "one", "a single text cannot be split"),
        ("train.jsonl", '{"text": "one"}\n[1]\n', "train.jsonl, line 2 is not a JSON object"),
    ],
)
def test_text_that_cannot_be_used_is_told_in_one_sentence(tmp_path, capsys, name, content, sentence):
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / name).write_text(content)
    with pytest.raises(SystemExit) as end:
        run(folder, tmp_path / "gpt2")
    told = capsys.readouterr().err
    assert end.value.code == 2
    assert told.startswith("error: ") and sentence in told and told.count("\n") == 1
    assert list(tmp_path.iterdir()) == [folder]


def test_an_output_that_is_there_is_left_alone(text, tmp_path, capsys):
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "gpt2" / "mine").write_text("mine")
    with pytest.raises(SystemExit) as end:
        run(text, tmp_path / "gpt2")
    assert end.value.code == 2 and "already exists" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["gpt2", "mine"]


def test_heads_that_do_not_divide_the_width_are_refused(text, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        pretrain(["--text", str(text), "--output", str(tmp_path / "gpt2"), "--width", "30", "--heads", "4"])
    assert end.value.code == 2 and "must divide the width" in capsys.readouterr().err
