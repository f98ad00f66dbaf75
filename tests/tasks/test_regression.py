import pytest
import torch
from transformers import AutoTokenizer

from dsee_compress import pretrained, tasks
from dsee_compress.configs import FinetuneConfig
from dsee_compress.errors import UserError

from ..fixtures.models import write_jsonl

REGRESSION = tasks.get("regression")

ROWS = [{"text": "good film", "label": 4.5}, {"text": "bad film", "label": 0}, {"text": "so so", "label": 2}]


def describe(folder, **options):
    config = FinetuneConfig(model="x", data=str(folder), task="regression", **options)
    return tasks.describe(str(folder), config)


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_whole_and_broken_numbers_become_floats_and_there_are_no_labels(tmp_path, bert, suffix):
    if suffix == "jsonl":
        write_jsonl(tmp_path / "train.jsonl", ROWS)
    else:
        lines = [f"{row['text']},{row['label']}" for row in ROWS]
        (tmp_path / "train.csv").write_text("\n".join(["text,label", *lines]))
    task = describe(tmp_path)
    assert (task.name, task.metric, task.labels, task.positive) == ("regression", "pearson", [], None)
    rows = tasks.encode(task, "train", AutoTokenizer.from_pretrained(bert))
    assert rows["labels"] == [4.5, 0.0, 2.0]
    whole = [dict(row, label=int(row["label"])) for row in ROWS]
    write_jsonl(tmp_path / "validation.jsonl", whole)
    assert tasks.encode(task, "validation", AutoTokenizer.from_pretrained(bert))["labels"] == [4.0, 0.0, 2.0]


def test_the_model_has_one_output_and_learns_by_the_mean_squared_error(tmp_path, bert):
    write_jsonl(tmp_path / "train.jsonl", ROWS)
    task = describe(tmp_path)
    model, tokenizer = pretrained.load(str(bert), task, seed=0)
    assert model.config.id2label == {0: "label"}
    rows = tasks.encode(task, "train", tokenizer)
    out = model(**REGRESSION.collator(tokenizer)([rows[index] for index in range(3)]))
    assert out.logits.shape == (3, 1)
    expected = torch.nn.functional.mse_loss(out.logits[:, 0], torch.tensor(rows["labels"], dtype=torch.float32))
    assert out.loss.item() == pytest.approx(expected.item())
    predictions = tasks.of(task).predictions(task, out.logits.detach().numpy(), rows, model.config)
    assert predictions.tolist() == out.logits.flatten().tolist()


@pytest.mark.parametrize(
    "label, message",
    [
        ("high", r"the train split of .* has 'high' in 'label', row 1; regression needs numbers"),
        ("", r"has '' in 'label', row 1; regression needs numbers"),
        (None, r"has None in 'label', row 1; regression needs numbers"),
        (float("inf"), r"has 'inf' in 'label', row 1; regression needs numbers"),
        (float("nan"), r"has 'nan' in 'label', row 1; regression needs numbers"),
        (3.0, r"has 3.0 in 'label' of every row; regression needs two values"),
    ],
)
def test_labels_that_are_no_numbers_or_all_one(tmp_path, label, message):
    lines = ["text,label", "a,3.0", f"b,{label}"]
    if label is None:
        write_jsonl(tmp_path / "train.jsonl", [{"text": "a", "label": 3.0}, {"text": "b", "label": None}])
    else:
        (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=message):
        describe(tmp_path)


@pytest.mark.parametrize("labels", [(True, False), ("1.5", "2.5")])
def test_truth_values_and_texts_are_no_numbers(tmp_path, labels):
    write_jsonl(tmp_path / "train.jsonl", [{"text": "a", "label": label} for label in labels])
    with pytest.raises(UserError, match=rf"has {labels[0]!r} in 'label', row 0; regression needs numbers"):
        describe(tmp_path)
