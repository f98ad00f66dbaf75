"""Data of entities in its forms, its windows, its labels, and what is wrong with it."""

import json

import pyarrow
import pyarrow.parquet
import pytest
from transformers import AutoTokenizer

from dsee_compress import tasks
from dsee_compress.configs import FinetuneConfig
from dsee_compress.errors import UserError
from dsee_compress.tasks.text import IGNORED

from ..fixtures.models import write_jsonl

TASK = tasks.get("token-classification")
ROWS = [
    {
        "tokens": ["the", "film", "about", "Zizzi", "Strada", "was", "dull"],
        "tags": ["O"] * 3 + ["B-X", "I-X", "O", "O"],
    },
    {"tokens": ["Browns", "in", "town"], "tags": ["B-X", "O", "B-Y"]},
]
SPANS = [
    {"text": "the film about Zizzi Strada was dull", "spans": [{"start": 15, "end": 27, "label": "X"}]},
    {
        "text": "Browns in town",
        "spans": [{"start": 10, "end": 14, "label": "Y"}, {"start": 0, "end": 6, "label": "X"}],
    },
]


@pytest.fixture(scope="module")
def tokenizer(bert):
    return AutoTokenizer.from_pretrained(bert)


def describe(folder, rows, **options):
    write_jsonl(folder / "train.jsonl", rows)
    config = FinetuneConfig(model="x", data=str(folder), task="token-classification", **{"max_length": 32, **options})
    return tasks.describe(str(folder), config)


def test_the_first_piece_of_each_word_has_its_tag(tokenizer, tmp_path):
    spec = describe(tmp_path, ROWS)
    assert spec.labels == ["O", "B-X", "I-X", "B-Y", "I-Y"]
    assert (spec.text, spec.label, spec.metric) == (["tokens"], "tags", "entity_f1")
    encoded = tasks.encode(spec, "train", tokenizer)
    for given, row in zip(ROWS, encoded, strict=True):
        theirs = tokenizer(given["tokens"], is_split_into_words=True)
        assert row["input_ids"] == theirs["input_ids"]
        words = theirs.word_ids()
        expected = [
            spec.labels.index(given["tags"][word]) if word is not None and word != before else IGNORED
            for before, word in zip([None, *words], words, strict=False)
        ]
        assert row["labels"] == expected
    assert "tags 'tags' (X, Y)" in encoded.info.description


def test_spans_of_characters_say_the_same_as_tags(tokenizer, tmp_path):
    (tmp_path / "spans").mkdir()
    tags, spans = describe(tmp_path, ROWS), describe(tmp_path / "spans", SPANS)
    assert spans.labels == tags.labels and (spans.text, spans.label) == (["text"], "spans")
    ours, theirs = (tasks.encode(spec, "train", tokenizer) for spec in (spans, tags))
    assert [*ours] == [*theirs]
    assert TASK.truth(spans, ours) == [{(3, 5, "X")}, {(0, 1, "X"), (2, 3, "Y")}]


def test_a_word_that_a_span_cuts_is_of_its_entity(tokenizer, tmp_path):
    spec = describe(tmp_path, [{"text": "Browns in town", "spans": [{"start": 2, "end": 8, "label": "X"}]}])
    assert TASK.truth(spec, tasks.encode(spec, "train", tokenizer)) == [{(0, 2, "X")}]


def test_numbers_with_names_are_their_names(tokenizer, tmp_path):
    names = ["O", "B-X", "I-X", "B-Y", "I-Y"]
    numbers = [{**row, "tags": [names.index(tag) for tag in row["tags"]]} for row in ROWS]
    feature = {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "Sequence"}
    about = json.dumps({"info": {"features": {"tags": feature}}})
    table = pyarrow.Table.from_pylist(numbers).replace_schema_metadata({"huggingface": about})
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    config = FinetuneConfig(model="x", data=str(tmp_path), task="token-classification")
    spec = tasks.describe(str(tmp_path), config)
    assert spec.labels == names
    assert TASK.truth(spec, tasks.encode(spec, "train", tokenizer))[1] == {(0, 1, "X"), (2, 3, "Y")}


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v3"])
def test_a_text_of_many_windows_keeps_every_entity(pretrained_folders, tmp_path, family):
    tokenizer = AutoTokenizer.from_pretrained(pretrained_folders[family])
    tokens = ["film", "Zizzi", "was", "Strada", "dull"] * 30
    tags = ["O", "B-X", "O", "B-Y", "O"] * 30
    spec = describe(tmp_path, [{"tokens": tokens, "tags": tags}, ROWS[1]], max_length=16)
    rows = tasks.encode(spec, "train", tokenizer)
    assert len(rows) > 12 and max(map(len, rows["input_ids"])) == 16
    assert TASK.truth(spec, rows)[0] == {(i, i + 1, tags[i][2:]) for i in range(150) if tags[i] != "O"}
    assert sum(map(len, rows["pieces"])) == 153
    assert sum(label != IGNORED for labels in rows["labels"] for label in labels) == 153


def test_what_a_perfect_model_says_is_the_truth_and_padding_has_no_part_in_it(tokenizer, tmp_path):
    import numpy as np

    spec = describe(tmp_path, [*ROWS, {"tokens": ["film", "Zizzi"] * 20, "tags": ["O", "B-X"] * 20}], max_length=16)
    rows = tasks.encode(spec, "train", tokenizer)
    batch = {name: tensor.numpy() for name, tensor in TASK.collator(tokenizer)([*rows]).items()}
    assert set(batch) == {*tokenizer.model_input_names, "labels"}
    labels = np.where(batch["labels"] == IGNORED, 3, batch["labels"])
    logits = np.eye(5)[labels]
    answers = TASK.answering(logits, batch)
    assert len(answers) == batch["attention_mask"].sum() < batch["attention_mask"].size
    assert TASK.predictions(spec, answers, rows, None) == TASK.truth(spec, rows)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "train.jsonl, line 2: 2 words in 'tokens' and 1 tags in 'tags'"),
        ({"tokens": ["a"], "tags": ["I-X"]}, "I-X follows O in 'tags'; in IOB2 an entity begins with B-"),
        ({"tokens": ["a", "b"], "tags": ["B-X", "I-Y"]}, "I-Y follows B-X"),
        ({"tokens": ["a"], "tags": ["X"]}, r"'tags' holds \"X\", which is no tag: they are O, B-TYPE and I-TYPE"),
        ({"tokens": ["a"], "tags": [None]}, "holds null, which is no tag"),
        ({"tokens": ["a"], "tags": "O"}, "where a list of tags or spans should be"),
        ({"tokens": [" "], "tags": ["O"]}, "'tokens' holds \" \", where a text should be"),
        ({"tokens": ["\ud800"], "tags": ["O"]}, "half a character"),
        ({"tokens": [], "tags": []}, "where words or a text should be"),
        (
            {"tokens": "a b", "tags": [{"start": 0, "end": 9, "label": "X"}]},
            "from 0 to 9, and the text has 3 characters",
        ),
        ({"tokens": "a b", "tags": [{"start": 0, "end": 1}]}, "where start, end and label of an entity should be"),
        (
            {"tokens": "ab c", "tags": [{"start": 0, "end": 1, "label": "X"}, {"start": 1, "end": 4, "label": "X"}]},
            "spans in 'tags' overlap at character 1",
        ),
    ],
)
def test_rows_that_are_no_tagged_texts(tmp_path, row, message):
    with pytest.raises(UserError, match=message):
        describe(tmp_path, [ROWS[0], row])


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{"tokens": ["a"], "tags": ["O"]}], {}, "has no entity in 'tags'; there is nothing to learn"),
        ([{"a": 1, "b": 2}], {}, "has neither tokens and tags nor text and spans among a, b"),
        ([{**ROWS[0], **SPANS[0]}], {}, "choose with --text tokens --label tags or --text text --label spans"),
        (ROWS, {"text": ["tokens"], "label": "mood"}, "has no column 'mood' among tokens, tags"),
        (ROWS, {"text": ["tokens", "tags"]}, "text names 2 columns, and token classification reads one"),
    ],
)
def test_columns_that_are_not_there(tmp_path, rows, options, message):
    with pytest.raises(UserError, match=message):
        describe(tmp_path, rows, **options)


def test_one_of_two_forms_is_named(tmp_path):
    both = [{**tagged, **spanned} for tagged, spanned in zip(ROWS, SPANS, strict=True)]
    assert describe(tmp_path, both, text=["text"]).label == "spans"
    assert describe(tmp_path, both, label="tags").text == ["tokens"]


def test_a_type_that_training_does_not_have(tokenizer, tmp_path):
    spec = describe(tmp_path, ROWS)
    write_jsonl(tmp_path / "validation.jsonl", [{"tokens": ["a"], "tags": ["B-Z"]}])
    with pytest.raises(UserError, match=r"validation.jsonl, line 1: the tag 'B-Z' is not in the train split"):
        tasks.encode(spec, "validation", tokenizer)


def test_csv_holds_no_lists(tmp_path):
    (tmp_path / "train.csv").write_text("tokens,tags\na b,O O\n")
    config = FinetuneConfig(model="x", data=str(tmp_path), task="token-classification")
    with pytest.raises(UserError, match="is csv, which holds no lists; token classification needs jsonl or parquet"):
        tasks.describe(str(tmp_path), config)
