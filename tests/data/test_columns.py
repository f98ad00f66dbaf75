"""Which columns are read is known, or asked for, and told in a line."""

import pytest
from transformers import AutoTokenizer

from dsee_compress import tasks
from dsee_compress.configs import FinetuneConfig
from dsee_compress.errors import UserError

from ..fixtures.models import write_jsonl


def describe(folder, row: dict, **options):
    label = options.get("label", "label")
    write_jsonl(folder / "train.jsonl", [row, {**row, label: "other"}])
    config = FinetuneConfig.parse({"model": "x", "data": str(folder), **options})
    return tasks.describe(str(folder), config)


@pytest.fixture
def told(capsys):
    """What was printed on stderr since the last call."""
    return lambda: capsys.readouterr().err


@pytest.mark.parametrize(
    "columns",
    [
        "question,sentence",
        "text,text_pair",
        "premise,hypothesis",
        "query,passage",
        "text1,text2",
        "sentence_A,sentence_B",
    ],
)
def test_a_usual_pair_is_read_as_one_in_its_order(tmp_path, told, columns):
    first, second = columns.split(",")
    row = {"idx": 3, second: "it was a good film", "label": "a", first: "was it a film?"}
    assert describe(tmp_path, row).text == [first, second]
    assert told() == ""


@pytest.mark.parametrize(
    "columns, choices",
    [
        (["text", "sentence"], "choose with --text sentence or text"),
        (["question", "context", "answer"], "choose with --text question,context or question,answer"),
    ],
)
def test_columns_that_are_equally_usual_are_asked_for(tmp_path, columns, choices):
    row = {**dict.fromkeys(columns, "a film"), "label": "a"}
    with pytest.raises(UserError, match=choices):
        describe(tmp_path, row)
    assert describe(tmp_path, row, text=columns[:1]).text == columns[:1]
    assert describe(tmp_path, row, label=columns[-1]).text == columns[:-1]


def test_another_column_of_texts_is_told(tmp_path, told):
    row = {"id": "a-1", "title": "[red]good[/] news", "text": "it was a film", "topic": "sports", "n": 3, "label": "a"}
    assert describe(tmp_path, row).text == ["text"]
    assert told().splitlines() == [
        f"the train split of {tmp_path} holds texts in 'title', too, which are not read; if they belong to the input, "
        "name the columns with --text text,title"
    ]
    describe(tmp_path, row, text="text")
    assert told() == ""


@pytest.mark.parametrize("text", ["text,text", "text,label", "label"])
def test_a_column_is_named_once(tmp_path, text):
    with pytest.raises(UserError, match="are text and label; name each once"):
        describe(tmp_path, {"text": "a film", "label": "a"}, text=text)


def test_both_columns_of_targets_are_asked_for(tmp_path):
    row = {"source": "a", "target": "b", "targets": ["c"]}
    with pytest.raises(UserError, match="has both 'targets' and 'target'; choose with --label"):
        describe(tmp_path, row, task="generation")
    assert describe(tmp_path, row | {"label": "target"}, task="generation", label="target").label == "target"


def test_what_was_read_says_so(tmp_path, bert):
    task = describe(tmp_path, {"question": "a film", "sentence": "a town", "label": "a, b"})
    rows = tasks.encode(task, "train", AutoTokenizer.from_pretrained(bert))
    assert rows.info.description == "text 'question', 'sentence'; label 'label' ('a, b', other)"
