"""predict.py on a device: the answers of validation, for any input."""

import random
from pathlib import Path

import numpy as np
import pytest

import dsee_compress
from dsee_compress import checkpoint, tasks
from dsee_compress.evaluation import inputs, session
from dsee_compress.stages import common

from ..fixtures.models import _BAD, _GOOD, _PLAIN, write_jsonl

BATCH = 8


def sentences(count: int = 500) -> list[str]:
    """Of the task's words and of others, short and long, some beyond the length that is cut."""
    draw = random.Random(3)
    words = [*_PLAIN, *_GOOD, *_BAD, "unheard", "Ünknown", "🙂", "中文", "it's", "..."]
    return [" ".join(draw.choices(words, k=draw.choice([1, 3, 8, 40, 200]))) for _ in range(count)]


def validated(folder: Path, precision: str, data: Path) -> np.ndarray:
    """Logits of an export folder's artifact, computed as `validate` does."""
    tokenizer = common.tokenizer_of(folder)
    task = checkpoint.read(folder).task.model_copy(update={"data": str(data)})
    rows = tasks.encode(task, "validation", tokenizer)
    file = {"fp32": "model.onnx", "int8": "model_int8.onnx"}[precision]
    with session.Session(folder / file) as live:
        batches = inputs.padded_batches(rows, tasks.collator(tokenizer), BATCH)
        return np.concatenate([live.forward(batch) for batch in batches])


def best(logits: np.ndarray, labels: list[str]) -> tuple[list[str], np.ndarray]:
    powers = np.exp(logits.astype(float) - logits.max(-1, keepdims=True))
    probabilities = powers / powers.sum(-1, keepdims=True)
    return [labels[index] for index in probabilities.argmax(-1)], probabilities.max(-1)


def through_optimum(folder: Path, file: str, texts: list[str]) -> list[str]:
    import torch
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer

    model = ORTModelForSequenceClassification.from_pretrained(folder, file_name=file)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    labels = []
    for start in range(0, len(texts), BATCH):
        batch = tokenizer(
            texts[start : start + BATCH], truncation=True, max_length=128, padding=True, return_tensors="pt"
        )
        with torch.inference_mode():
            labels += [model.config.id2label[int(index)] for index in model(**batch).logits.argmax(-1)]
    return labels


@pytest.fixture(scope="session", params=["fp32", "int8"])
def precision(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def bundled(exported: Path, precision: str) -> Path:
    return dsee_compress.bundle(exported, output=exported.parent / f"bundle {precision}", precision=precision)


def test_the_device_has_neither_torch_nor_transformers_nor_this_package(device):
    for module in ("torch", "transformers", "dsee_compress", "optimum", "onnx", "scipy", "sklearn", "psutil"):
        done = device.run("-c", f"import {module}")
        assert b"ModuleNotFoundError" in done.stderr


def test_labels_are_those_of_optimum_and_of_validation(device, exported, bundled, precision, tmp_path):
    texts = sentences()
    write_jsonl(tmp_path / "validation.jsonl", [{"text": text, "label": "good"} for text in texts])
    (tmp_path / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    plain = device.answers(bundled, tmp_path / "texts.txt", "--batch", BATCH)
    rows = device.answers(bundled, tmp_path / "validation.jsonl")
    assert plain == rows and len(rows) == len(texts)
    labels, scores = best(validated(exported, precision, tmp_path), ["bad", "good"])
    found = [answer["label"] for answer in plain]
    assert set(found) == {"bad", "good"}
    assert found == labels
    assert found == through_optimum(exported, {"fp32": "model.onnx", "int8": "model_int8.onnx"}[precision], texts)
    assert [answer["score"] for answer in plain] == pytest.approx(scores, abs=1e-6)
