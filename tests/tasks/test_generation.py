import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from dsee_compress import interfaces, tasks
from dsee_compress.configs import DecodingConfig, FinetuneConfig, ValidateConfig
from dsee_compress.errors import UserError
from dsee_compress.evaluation import decoding, inputs, parity
from dsee_compress.interfaces import examination
from dsee_compress.metrics import METRICS
from dsee_compress.stages import common
from dsee_compress.tasks import generation
from dsee_compress.tasks.text import IGNORED
from dsee_compress.training import trainer

from ..fixtures import models
from ..fixtures.models import write_jsonl

GENERATION = tasks.get("generation")

ROWS = [
    {"source": "name : Aromi | food : Indian", "targets": ["Aromi serves Indian food .", "there is Aromi ."]},
    {"source": "name : Zizzi", "targets": ["Zizzi is a place ."]},
]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory) -> Path:
    return models.write_gpt2(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="module")
def tokenizer(gpt2):
    return AutoTokenizer.from_pretrained(gpt2)


@pytest.fixture(scope="module")
def meanings(tmp_path_factory) -> Path:
    return models.write_generation_data(tmp_path_factory.mktemp("meanings"))


@pytest.fixture(scope="module")
def trained(gpt2, meanings, tokenizer, tmp_path_factory):
    """A GPT-2 that learned the task, all of it."""
    model = AutoModelForCausalLM.from_pretrained(gpt2)
    config = options(meanings, epochs=15, learning_rate=1e-2, batch_size=16, device="cpu")
    task = tasks.describe(str(meanings), config)
    rows, collator = tasks.encode(task, "train", tokenizer), GENERATION.collator(tokenizer)
    trainer.train(model, GENERATION, rows, collator, config, config.epochs, tmp_path_factory.mktemp("state"), "learn")
    return model


def options(data: Path, **given) -> FinetuneConfig:
    return FinetuneConfig(model="m", data=str(data), task="generation", **given)


def written(tmp_path: Path, train: list[dict], validation: list[dict] | None = None) -> Path:
    write_jsonl(tmp_path / "train.jsonl", train)
    write_jsonl(tmp_path / "validation.jsonl", validation or train)
    return tmp_path


def described(data: Path, **given):
    return tasks.describe(str(data), options(data, **given))


def test_a_row_is_a_prompt_a_target_and_an_end_one_a_reference(tmp_path, tokenizer):
    task = described(written(tmp_path, ROWS))
    assert (task.text, task.label, task.prompt, task.metric) == (["source"], "targets", "{source}\n", "bleu")
    rows = tasks.encode(task, "train", tokenizer)
    assert len(rows) == 3
    for row, (source, target) in zip(rows, [(r["source"], t) for r in ROWS for t in r["targets"]], strict=True):
        prompt = tokenizer(f"{source}\n")["input_ids"]
        target_tokens = [*tokenizer(target)["input_ids"], tokenizer.eos_token_id]
        assert row["input_ids"] == prompt + target_tokens
        assert row["labels"] == [IGNORED] * len(prompt) + target_tokens
        assert row["attention_mask"] == [1] * len(row["input_ids"])


def test_a_split_has_one_target_a_row_or_a_list_and_equal_sources_are_one(tmp_path, tokenizer):
    train = [{"source": row["source"], "target": target} for row in ROWS for target in row["targets"]]
    task = described(written(tmp_path, train, ROWS))
    assert generation.prompts(task, "train", tokenizer) == generation.prompts(task, "validation", tokenizer)
    assert [prompt.references for prompt in generation.prompts(task, "train", tokenizer)] == [
        row["targets"] for row in ROWS
    ]


def test_columns_and_prompt_can_be_named(tmp_path, tokenizer):
    rows = [{"table": row["source"], "say": row["targets"][0], "target": "wrong"} for row in ROWS]
    task = described(written(tmp_path, rows), text="table", label="say", prompt="data: {source} text:")
    prompts = generation.prompts(task, "train", tokenizer)
    assert tokenizer.decode(prompts[0].tokens) == f"data: {ROWS[0]['source']} text:"
    assert prompts[1].references == ["Zizzi is a place ."]


def test_a_long_target_is_cut_and_does_not_end(tmp_path, tokenizer):
    task = described(written(tmp_path, ROWS), max_length=12)
    rows = tasks.encode(task, "train", tokenizer)
    assert len(rows[0]["input_ids"]) == 12
    assert rows[0]["labels"][-1] not in (IGNORED, tokenizer.eos_token_id)


def test_a_tokenizer_that_begins_texts_with_a_token_begins_prompts_alone(tmp_path, gpt2):
    from tokenizers import processors

    tokenizer = AutoTokenizer.from_pretrained(gpt2, bos_token="<|endoftext|>")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", tokenizer.bos_token_id)]
    )
    row = tasks.encode(described(written(tmp_path, ROWS)), "train", tokenizer)[0]
    assert row["input_ids"].count(tokenizer.bos_token_id) == 2
    assert row["input_ids"][0] == row["input_ids"][-1] == tokenizer.eos_token_id
    assert row["labels"][0] == IGNORED


@pytest.mark.parametrize("pad", ["<|endoftext|>", None])
@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_are_padded_on_the_right_and_their_labels_ignored(tmp_path, gpt2, pad, side):
    tokenizer = AutoTokenizer.from_pretrained(gpt2, pad_token=pad, padding_side=side)
    rows = tasks.encode(described(written(tmp_path, ROWS)), "train", tokenizer)
    batch = GENERATION.collator(tokenizer)(list(rows))
    for index, row in enumerate(rows):
        length, longest = len(row["input_ids"]), batch["input_ids"].shape[1]
        assert batch["input_ids"][index].tolist() == row["input_ids"] + [tokenizer.eos_token_id] * (longest - length)
        assert batch["labels"][index].tolist() == row["labels"] + [IGNORED] * (longest - length)
        assert batch["attention_mask"][index].sum() == length


def test_the_loss_of_a_token_is_transformers_own(gpt2, meanings, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(gpt2).eval()
    rows, collator = tasks.encode(described(meanings), "validation", tokenizer), GENERATION.collator(tokenizer)
    losses = decoding.token_losses(
        parity.torch_forward(model), inputs.padded_batches(rows, collator, 7, labelled=True), IGNORED
    )
    for index in (0, 8, len(rows) - 1):
        alone = {name: torch.tensor([values]) for name, values in rows[index].items()}
        own = losses.losses[losses.rows == index]
        assert len(own) == sum(label != IGNORED for label in rows[index]["labels"])
        assert own.mean() == pytest.approx(model(**alone).loss.item(), rel=1e-5)


def test_a_small_decoder_learns_and_is_measured(trained, meanings, tokenizer):
    task = described(meanings)
    exam = interfaces.decoder.examine(task, "validation", tokenizer, ValidateConfig(batch_size=7))
    answers = exam.answers(examination.subject_of(trained))
    assert exam.examples == 24
    assert list(exam.metrics) == ["bleu", "chrf", "ter", "rouge_l", "nist", "perplexity"]
    values = {name: metric.value(answers.predictions, exam.truth) for name, metric in exam.metrics.items()}
    assert values["bleu"] > 0.9 and values["ter"] < 0.1 and values["rouge_l"] > 0.9
    quick = common.validation_metrics(
        task, trained, tasks.encode(task, "validation", tokenizer), GENERATION.collator(tokenizer), 16
    )
    assert list(quick) == ["perplexity"]
    assert quick["perplexity"] == pytest.approx(values["perplexity"], rel=1e-5)
    texts = exam.as_json(answers.predictions)
    assert texts[0] in exam.truth[0]
    json.dumps(texts)
    tokens = sum(len(tokenizer(text)["input_ids"]) + 1 for own in exam.truth for text in own)
    assert answers.logits.shape == (tokens, 1)


@pytest.mark.parametrize(
    "settings", [{}, {"beams": 3, "length_penalty": 0.9, "no_repeat_ngram": 4}], ids=["greedy", "beams"]
)
def test_batches_of_any_size_write_the_same(trained, meanings, tokenizer, settings):
    """Padding on the left does not show; texts come in the order of their prompts."""
    prompts = [prompt.tokens for prompt in generation.prompts(described(meanings), "validation", tokenizer)][:9]
    prompts[3] = prompts[3][4:]
    settings = DecodingConfig(**settings)
    alone, together = (decoding.generate(trained, prompts, settings, tokenizer, size) for size in (1, 5))
    assert alone == together
    assert len(set(alone)) > 3


def test_greedy_takes_the_likeliest_token_each_time(trained, meanings, tokenizer):
    prompt = generation.prompts(described(meanings), "validation", tokenizer)[0].tokens
    tokens = list(prompt)
    while tokens[-1] != tokenizer.eos_token_id:
        tokens.append(int(trained(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
    text = tokenizer.decode(tokens[len(prompt) : -1])
    assert decoding.generate(trained, [prompt], DecodingConfig(), tokenizer, 1) == [text]


def test_no_ngram_is_written_twice_but_the_prompts_may_be(gpt2, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(gpt2).eval()
    torch.nn.init.zeros_(model.transformer.wpe.weight)
    torch.nn.init.zeros_(model.lm_head.weight)  # all tokens alike: the first of all that are allowed is written

    def first(size):
        settings = DecodingConfig(no_repeat_ngram=size, max_new_tokens=4)
        (text,) = decoding.generate(model, [[5, 1, 1, 1]], settings, tokenizer, 1)
        return text

    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.fill_(1.0)
        model.lm_head.weight[1], model.lm_head.weight[2] = 0.3, 0.2  # `!` is likelier than the quotation mark
    one, other = tokenizer.decode([1]), tokenizer.decode([2])
    assert first(0) == one * 4
    assert first(2) == one + one + other + one


def test_texts_end_where_the_model_has_no_more_positions(gpt2, tokenizer):
    """Each by its own prompt's length, whatever it shares a batch with."""
    model = AutoModelForCausalLM.from_pretrained(gpt2).eval()
    longest = model.config.max_position_embeddings
    prompts = [[5] * (longest - 3), [6] * 100, [7] * 20, [8] * (longest - 3), [9] * 20]
    for new in (20, 500):
        settings = DecodingConfig(max_new_tokens=new)
        alone, together = (decoding.generate(model, prompts, settings, tokenizer, size) for size in (1, 4))
        assert alone == together
        counts = [len(tokenizer(text)["input_ids"]) for text in together]
        assert counts[0] <= 3 < min(counts[1], counts[2])


def test_smoothed_labels_give_softer_answers(gpt2, meanings, tokenizer, tmp_path):
    task = described(meanings)
    rows, collator = tasks.encode(task, "train", tokenizer), GENERATION.collator(tokenizer)
    found = []
    for smoothing in (0.0, 0.3):
        model = AutoModelForCausalLM.from_pretrained(gpt2)
        config = options(meanings, epochs=6, learning_rate=1e-2, batch_size=16, device="cpu", label_smoothing=smoothing)
        trainer.train(model, GENERATION, rows, collator, config, config.epochs, tmp_path / str(smoothing), "learn")
        found.append(common.validation_metrics(task, model, rows, collator, 64)["perplexity"])
    assert found[1] > 1.2 * found[0]


@pytest.mark.parametrize(
    "rows, given, message",
    [
        ([{"text": "a", "target": "b"}], {}, r"the train split of .* has no column 'source'; .*name it with --text"),
        ([{"source": "a", "say": "b"}], {}, r"no target column 'targets' or 'target' among source, say; name it with"),
        ([{"source": "a", "target": "b"}], {"label": "say"}, r"no target column 'say' among source, target"),
        ([{"source": "a", "targets": []}, {"source": "a", "targets": ["b"]}], {}, r"has no target in 'targets', row 0"),
        ([{"source": "a", "target": 3}], {}, r"has 3 in 'target', row 0, where a target's text should be"),
        ([{"source": "a", "target": "b"}, {"source": "a", "target": None}], {}, r"has None in 'target', row 1"),
        ([{"source": "a", "targets": ["b", " "]}], {}, r"has ' ' in 'targets', row 0"),
        ([{"source": " ", "target": "b"}], {}, r"has ' ' in 'source', row 0, where a text should be"),
        ([{"source": 7, "target": "b"}], {}, r"has 7 in 'source', row 0, where a text should be"),
        ([], {}, r"train.jsonl is empty"),
    ],
)
def test_rows_that_are_no_source_with_its_targets_are_refused(tmp_path, rows, given, message):
    with pytest.raises(UserError, match=message) as error:
        described(written(tmp_path, rows, ROWS), **given)
    assert "\n" not in str(error.value)


def test_a_prompt_that_leaves_no_room_is_refused(tmp_path, tokenizer):
    task = described(written(tmp_path, ROWS), max_length=8)
    with pytest.raises(
        UserError, match=r"the source 'name : Aromi .*', a prompt of \d+ tokens, which leaves no room .* 8"
    ):
        tasks.encode(task, "train", tokenizer)


def test_a_tokenizer_without_an_end_is_refused(tmp_path, gpt2):
    tokenizer = AutoTokenizer.from_pretrained(gpt2, eos_token=None)
    with pytest.raises(UserError, match="no end-of-text token"):
        tasks.encode(described(written(tmp_path, ROWS)), "train", tokenizer)


@pytest.mark.parametrize(
    "given, message",
    [
        (
            {"task": "classification", "prompt": "{source}!"},
            "prompt is about generation, and the task is classification",
        ),
        ({"prompt": "data:"}, r"prompt 'data:' has to hold \{source\} once"),
        ({"prompt": "{source}{source}"}, r"has to hold \{source\} once"),
        ({"text": "a,b"}, "text names 2 columns, and generation reads one"),
        ({"metric": "accuracy"}, "metric accuracy is not of generation, which has bleu, chrf"),
        ({"positive": "yes"}, "positive names a label, and generation has none"),
        ({"label_smoothing": 1.0}, "label_smoothing: .*less than 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        FinetuneConfig.parse({"model": "m", "data": "d", "task": "generation", **given})


def test_labels_that_are_numbers_are_not_smoothed(bert, tmp_path):
    import dsee_compress

    rows = [{"text": "the film", "label": score / 4} for score in range(8)]
    with pytest.raises(UserError, match="label_smoothing is about classes and tokens"):
        dsee_compress.finetune(
            model=str(bert),
            data=str(written(tmp_path, rows)),
            output=tmp_path / "out",
            task="regression",
            label_smoothing=0.1,
        )
    assert not (tmp_path / "out").exists()


def test_perplexity_of_a_model_that_knows_nothing_is_its_vocabulary():
    losses = np.tile([6 * np.log(382), 6], (5, 1))
    from dsee_compress.metrics import Written

    assert METRICS["perplexity"].value(Written([], losses), None) == pytest.approx(382)
