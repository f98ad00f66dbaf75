import json

import pandas
import pytest
from transformers import AutoTokenizer

from dsee_compress import data, tasks
from dsee_compress.configs import FinetuneConfig
from dsee_compress.errors import UserError

from ..fixtures.models import write_jsonl

ROWS = [{"sentence": "good film", "label": 1}, {"sentence": "bad film", "label": 0}, {"sentence": "so so", "label": 1}]


def write(folder, split: str, rows: list[dict], suffix: str) -> None:
    folder.mkdir(exist_ok=True)
    if suffix == "jsonl":
        write_jsonl(folder / f"{split}.jsonl", rows)
    elif suffix == "csv":
        pandas.DataFrame(rows).to_csv(folder / f"{split}.csv", index=False)
    else:
        pandas.DataFrame(rows).to_parquet(folder / f"{split}.parquet")


def describe(folder, **options):
    config = FinetuneConfig(model="x", data=str(folder), **{"max_length": 16, **options})
    return tasks.describe(str(folder), config)


@pytest.fixture
def tokenizer(bert):
    return AutoTokenizer.from_pretrained(bert)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_each_format_gives_the_same_rows(tmp_path, tokenizer, suffix):
    write(tmp_path / "data", "train", ROWS, suffix)
    task = describe(tmp_path / "data")
    assert (task.text, task.label, task.labels) == (["sentence"], "label", ["0", "1"])
    rows = tasks.encode(task, "train", tokenizer)
    assert rows["labels"] == [1, 0, 1]
    assert rows["input_ids"] == tokenizer([row["sentence"] for row in ROWS])["input_ids"]


def test_integer_labels_are_in_the_order_of_numbers(tmp_path):
    write(tmp_path, "train", [{"text": f"t{label}", "label": label} for label in (10, 9, 2, 0)], "jsonl")
    assert describe(tmp_path).labels == ["0", "2", "9", "10"]


def test_pairs_are_found_and_encoded_as_pairs(tmp_path, tokenizer):
    rows = [
        {"sentence1": "a film", "sentence2": "a town", "label": "x"},
        {"sentence1": "b", "sentence2": "c", "label": "y"},
    ]
    write(tmp_path, "train", rows, "jsonl")
    task = describe(tmp_path)
    assert task.text == ["sentence1", "sentence2"]
    encoded = tasks.encode(task, "train", tokenizer)
    assert encoded["input_ids"] == tokenizer(["a film", "b"], ["a town", "c"])["input_ids"]


def test_columns_can_be_named(tmp_path, tokenizer):
    write(tmp_path, "train", [{"utterance": "hi", "intent": "a"}, {"utterance": "no", "intent": "b"}], "csv")
    task = describe(tmp_path, text=["utterance"], label="intent")
    assert tasks.encode(task, "train", tokenizer)["labels"] == [0, 1]


def test_long_texts_are_cut(tmp_path, tokenizer):
    write(tmp_path, "train", [{"text": "film " * 50, "label": 0}, {"text": "a", "label": 1}], "jsonl")
    task = describe(tmp_path, max_length=9)
    assert len(tasks.encode(task, "train", tokenizer)["input_ids"][0]) == 9


def test_fingerprint_follows_the_content(tmp_path):
    write(tmp_path, "train", ROWS, "jsonl")
    before = data.fingerprint(str(tmp_path), "train")
    write(tmp_path, "train", ROWS[:2], "jsonl")
    assert data.fingerprint(str(tmp_path), "train") != before


@pytest.mark.parametrize(
    "rows, message",
    [
        ([{"words": "a", "label": 0}], r"has no text column among words, label; name it with --text"),
        ([{"text": "a", "target": 0}], r"has no label column 'label' among text, target; name it with --label"),
        ([{"text": "a", "label": 0}], r"has one label only, 0; a classifier needs two"),
        ([{"text": "a", "label": None}, {"text": "a", "label": 1}], r"has rows without a 'label'"),
        ([{"text": "a", "label": 0.5}, {"text": "b", "label": 1.5}], r"numbers with a fraction as labels"),
    ],
)
def test_training_data_that_cannot_be_described(tmp_path, rows, message):
    write(tmp_path, "train", rows, "jsonl")
    with pytest.raises(UserError, match=message):
        describe(tmp_path)


def test_f1_is_about_the_second_of_two_labels_or_the_one_that_is_named(tmp_path):
    write(tmp_path / "two", "train", ROWS, "jsonl")
    assert describe(tmp_path / "two").positive == "1"
    assert describe(tmp_path / "two", positive=0, metric="f1").positive == "0"
    write(tmp_path / "three", "train", [{"text": label, "label": label} for label in "abc"], "jsonl")
    assert describe(tmp_path / "three").positive is None
    assert describe(tmp_path / "three", metric="f1", positive="b").positive == "b"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"metric": "f1"}, r"metric f1 is about one label, and the train split of .* has 77; name it with --positive"),
        ({"positive": "intent l2"}, r"has no label 'intent l2'; did you mean 'intent 2'\?"),
    ],
)
def test_f1_of_a_label_that_is_not_known(tmp_path, options, message):
    write(tmp_path, "train", [{"text": "a", "label": f"intent {number}"} for number in range(77)], "jsonl")
    with pytest.raises(UserError, match=message):
        describe(tmp_path, **options)


@pytest.mark.parametrize(
    "row, message",
    [
        ({"text": "a", "label": "c"}, r"the validation split of .* has the label 'c', which is not in the train split"),
        ({"text": None, "label": "a"}, r"column 'text' has None where a text should be"),
        ({"sentence": "a", "label": "a"}, r"has no column 'text'"),
    ],
)
def test_a_split_that_does_not_fit_the_training_data(tmp_path, tokenizer, row, message):
    write(tmp_path, "train", [{"text": "x", "label": "a"}, {"text": "y", "label": "b"}], "jsonl")
    write(tmp_path, "validation", [row], "jsonl")
    task = describe(tmp_path)
    with pytest.raises(UserError, match=message):
        tasks.encode(task, "validation", tokenizer)


def test_the_sample_intents_are_what_the_readme_says():
    from pathlib import Path

    folder = Path(__file__).parents[2] / "samples" / "intents"
    splits = {
        split: [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]
        for split in ("train", "validation")
    }
    texts = [" ".join(row["text"].lower().split()) for rows in splits.values() for row in rows]
    assert len(texts) >= 1500 and len(set(texts)) == len(texts)
    labels = {row["label"] for row in splits["train"]}
    assert len(labels) >= 12 and labels == {row["label"] for row in splits["validation"]}
