"""Lists of labels as data, the threshold above which one is given, and what is wrong with a list."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from transformers import AutoConfig, AutoTokenizer

from dsee_compress import pretrained, tasks
from dsee_compress.configs import FinetuneConfig
from dsee_compress.errors import UserError
from dsee_compress.tasks.multi_label import THRESHOLD, best_threshold

from ..fixtures.models import write_jsonl

TASK = tasks.get("multi-label")
ROWS = [
    {"text": "a lovely film", "labels": ["joy", "awe"]},
    {"text": "a dull town", "labels": []},
    {"text": "people felt warm", "labels": ["joy"]},
]


@pytest.fixture(scope="module")
def tokenizer(bert):
    return AutoTokenizer.from_pretrained(bert)


def describe(folder, rows=ROWS, **options):
    write_jsonl(folder / "train.jsonl", rows)
    config = FinetuneConfig(model="x", data=str(folder), task="multi-label", **{"max_length": 16, **options})
    return tasks.describe(str(folder), config)


def test_labels_are_flags_in_the_order_of_their_names(tokenizer, tmp_path):
    spec = describe(tmp_path)
    assert (spec.labels, spec.label, spec.metric, spec.text) == (["awe", "joy"], "labels", "micro_f1", ["text"])
    rows = tasks.encode(spec, "train", tokenizer)
    assert rows["labels"] == [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]]
    assert TASK.truth(spec, rows).tolist() == [[True, True], [False, False], [False, True]]


def test_the_loss_is_the_cross_entropy_of_each_label_alone(bert, tokenizer, tmp_path):
    spec = describe(tmp_path)
    model, _ = pretrained.load(str(bert), spec, seed=0)
    rows = tasks.encode(spec, "train", tokenizer)
    batch = TASK.collator(tokenizer)([*rows])
    with torch.no_grad():
        out = model(**batch)
    logits, flags = out.logits.double().numpy(), np.array(rows["labels"])
    probabilities = 1 / (1 + np.exp(-logits))
    expected = -np.mean(flags * np.log(probabilities) + (1 - flags) * np.log(1 - probabilities))
    assert out.loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_no_threshold_is_better_than_the_fitted_one(seed):
    generator = np.random.default_rng(seed)
    truth = generator.random((40, 5)) < 0.2
    logits = (generator.normal(-1, 1, truth.shape) + 2 * truth).round(1)  # some of them equal
    config = AutoConfig.for_model("bert", **TASK.fitted(logits, truth))
    found = f1_score(truth, TASK.predictions(None, logits, None, config), average="micro")
    values = np.unique(1 / (1 + np.exp(-logits)))
    others = [f1_score(truth, 1 / (1 + np.exp(-logits)) > value, average="micro", zero_division=0) for value in values]
    assert found == pytest.approx(max(others)) and found > 0.5
    assert getattr(config, THRESHOLD) not in values


def test_a_threshold_where_every_label_is_right():
    probabilities = np.array([[0.9, 0.8]])
    assert best_threshold(probabilities, np.array([[True, True]])) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("joy", r"has no list of labels in 'labels' \(train.jsonl, line 4\)"),
        (None, "has no list of labels"),
        ([""], "has '' among the labels"),
        ([None], "has None among"),
        ([["joy"]], r"has \['joy'\] among"),
        (["\ud800"], "where a name should be"),
    ],
)
def test_what_is_no_list_of_labels(tmp_path, labels, message):
    with pytest.raises(UserError, match=message):
        describe(tmp_path, [*ROWS, {"text": "a", "labels": labels}])


def test_labels_that_training_does_not_have(tokenizer, tmp_path):
    spec = describe(tmp_path)
    write_jsonl(tmp_path / "validation.jsonl", [{"text": "a", "labels": ["fear"]}])
    with pytest.raises(UserError, match=r"has the label 'fear', which is not in the train split \(validation.jsonl"):
        tasks.encode(spec, "validation", tokenizer)


def test_one_label_is_nothing_to_tell_apart(tmp_path):
    with pytest.raises(UserError, match="fewer than two labels"):
        describe(tmp_path, [{"text": "a", "labels": ["joy"]}])


def test_csv_holds_no_lists(tmp_path):
    (tmp_path / "train.csv").write_text("text,labels\na,joy\n")
    config = FinetuneConfig(model="x", data=str(tmp_path), task="multi-label")
    with pytest.raises(UserError, match=r"has no list of labels .*; a csv holds no lists"):
        tasks.describe(str(tmp_path), config)


def test_smoothing_is_not_about_labels_that_stand_alone(tmp_path):
    from dsee_compress.configs import RunConfig

    options = {"model": "x", "data": "x", "task": "multi-label", "label_smoothing": 0.1}
    with pytest.raises(UserError, match="label_smoothing is about classes and tokens, not the lists of multi-label"):
        RunConfig.parse({"finetune": options})
