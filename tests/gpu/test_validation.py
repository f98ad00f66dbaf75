"""fp16 is validated on the card that it is for, and its logits there are those that the export foresaw.

The body runs on the CPU too, where it is not validated.
"""

import json

import numpy as np
import pytest
import torch

import dsee_compress
from dsee_compress.evaluation import arithmetic
from dsee_compress.evaluation.inputs import random_batches
from dsee_compress.evaluation.session import Session
from dsee_compress.exporting import precision

from ..fixtures import models
from ..fixtures.graphs import lower, write
from .test_decoders import CUDA

RULES = precision.Rules(reduce_range=True, signed_activations=False, block_size=32)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_fp16_is_asked_on_cuda_or_not_at_all(bert_tuned, tmp_path, monkeypatch, device):
    if device == "cpu":
        monkeypatch.setattr(arithmetic, "obstacle", lambda provider: "it is away")
    folder = dsee_compress.export(bert_tuned, output=tmp_path / "export", target="cuda")
    dsee_compress.validate(folder, max_drop=0.5, max_compression_drop=0.5)
    result = json.loads((folder / "validation.json").read_text())
    there = {"onnx_fp32": "cuda", "onnx_fp16": "cuda"} if device == "cuda" else {"onnx_fp32": "cpu"}
    assert result["providers"] == there and ("onnx_fp16" in result["accuracy"]) == (device == "cuda")
    assert ("onnx_fp16" in result["not_validated"]) == (device == "cpu")


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("times", [6e5, 3e3])
def test_what_is_beyond_the_range_is_right_on_the_card(tmp_path, device, times):
    """Neurons far beyond it, which stay in fp32, and others below it that do not."""
    model, path = models.build("bert").eval(), tmp_path / "model.onnx"
    layer = model.bert.encoder.layer[1]
    with torch.no_grad():
        layer.intermediate.dense.weight[:3] *= times
        layer.output.dense.weight[:, :3] /= times
    write(model, path, "fused", 18, "cuda")
    with Session(path) as live:
        batches = random_batches([(6, 12)] * 2, models.VOCABULARY, live.inputs, pad_token=1)
        wanted = [live.forward(batch) for batch in batches]
    lower(path, tmp_path / "half.onnx", "fp16", RULES, lambda: batches)
    with Session(tmp_path / "half.onnx", provider=device) as live:
        for batch, logits in zip(batches, wanted, strict=True):
            assert np.abs(live.forward(batch) - logits).max() < 2e-2
