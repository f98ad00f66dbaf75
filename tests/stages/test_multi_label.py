"""The whole way of several labels a text: the threshold goes along, and every reader gives the same labels."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from transformers import AutoConfig, AutoTokenizer

import dsee_compress
from dsee_compress.runtime import answers
from dsee_compress.store.manifest import Manifest

from ..fixtures.models import write_jsonl

TELLING = {"joy": "lovely", "anger": "awful", "awe": "superb"}
PLAIN = ["the", "film", "was", "a", "story", "town"]


def told(draw: random.Random) -> dict:
    labels = sorted(name for name in TELLING if draw.random() < 0.35)
    words = [*draw.choices(PLAIN, k=3), *(TELLING[name] for name in labels)]
    draw.shuffle(words)
    return {"text": " ".join(words), "labels": labels}


@pytest.fixture(scope="module")
def run(bert, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("labels")
    (root / "data").mkdir()
    draw = random.Random(7)
    for split, count in (("train", 160), ("validation", 48)):
        write_jsonl(root / "data" / f"{split}.jsonl", [told(draw) for _ in range(count)])
    training = {"batch_size": 16, "learning_rate": 1e-2}
    recipe = {
        "finetune": {
            **{"model": str(bert), "data": str(root / "data"), "task": "multi-label", "max_length": 16},
            **{"epochs": 15, "rank": 3, "sparse": 5, "alpha": 6.0, **training},
        },
        "prune": {"retune_epochs": 3, "heads": 0.34, "neurons": 0.3, "distill": True, **training},
        "validate": {"max_drop": 0.9, "max_compression_drop": 0.9},
        "benchmark": {"samples": 10, "rounds": 1, "warmup": 1, "sequence_length": 16, "threads": 1},
    }
    return dsee_compress.run(recipe, output=root / "run")


def rows(run: Path) -> list[dict]:
    data = Path(Manifest.read(run / "finetune").task.data)
    return [json.loads(line) for line in (data / "validation.jsonl").read_text().splitlines()]


def threshold(folder: Path) -> float:
    return AutoConfig.from_pretrained(folder).label_threshold


def flags(labels: list[list[int]]) -> np.ndarray:
    return np.array([[index in row for index in range(len(TELLING))] for row in labels])


def test_validation_is_what_scikit_learn_says_of_the_predictions(run):
    measured = json.loads((run / "export" / "validation.json").read_text())
    names = Manifest.read(run / "finetune").task.labels
    truth = flags([[names.index(label) for label in row["labels"]] for row in rows(run)])
    for name, entry in measured["accuracy"].items():
        found = flags(measured["predictions"][name])
        assert entry["value"] == pytest.approx(f1_score(truth, found, average="micro"))
        assert measured["other_metrics"][name] == {"macro_f1": pytest.approx(f1_score(truth, found, average="macro"))}
    assert measured["accuracy"]["dense_finetuned"]["value"] > 0.8
    assert measured["parity"] == {"export_max_abs": pytest.approx(0, abs=1e-3), "label_agreement": None}


def test_each_model_has_a_threshold_of_its_own_and_an_export_that_of_its_model(run):
    dense, pruned = threshold(run / "finetune"), threshold(run / "prune")
    assert dense != pruned and 0 < dense < 1 and 0 < pruned < 1
    assert (threshold(run / "dense"), threshold(run / "export")) == (dense, pruned)
    for stage in ("prune", "export", "dense"):
        assert Manifest.read(run / stage).metrics.label_agreement is None


@pytest.mark.optimum
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_bundle_gives_the_labels_of_optimums_class(run, tmp_path, precision):
    from optimum.onnxruntime import ORTModelForSequenceClassification

    folder = dsee_compress.bundle(run / "export", output=tmp_path / "bundle", precision=precision)
    texts = [row["text"] for row in rows(run)]
    bundled = answers.load(folder)
    ours = [entry for text in texts for entry in bundled.answer([bundled.encode((text,))])]
    file = {"fp32": "model.onnx", "int8": "model_int8.onnx"}[precision]
    model = ORTModelForSequenceClassification.from_pretrained(run / "export", file_name=file)
    tokenizer = AutoTokenizer.from_pretrained(run / "export")
    assert model.config.problem_type == "multi_label_classification"
    for text, found in zip(texts, ours, strict=True):
        with torch.inference_mode():
            probabilities = model(**tokenizer(text, return_tensors="pt")).logits.sigmoid()[0].numpy()
        expected = [model.config.id2label[index] for index in np.argsort(-probabilities)]
        kept = [name for name in expected if probabilities[model.config.label2id[name]] > threshold(run / "export")]
        assert found["labels"] == kept
        assert found["scores"] == pytest.approx([probabilities[model.config.label2id[name]] for name in kept], abs=1e-5)
    assert {len(entry["labels"]) for entry in ours} >= {0, 1, 2}


def test_the_report_claims_no_agreement_of_labels(run):
    for name in ("report.md", "report.html"):
        text = (run / name).read_text()
        assert "icro F1" in text and "macro F1" in text and "of the labels agree" not in text
