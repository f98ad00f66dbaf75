"""An encoder through ONNX Runtime's CUDA provider answers as PyTorch does. The body runs on the CPU too."""

import pytest

from dsee_compress.evaluation import parity
from dsee_compress.evaluation.inputs import random_batches
from dsee_compress.evaluation.session import Session
from dsee_compress.exporting import precision

from ..fixtures import models
from ..fixtures.graphs import lower, write
from .test_decoders import CUDA

RULES = precision.Rules(reduce_range=True, signed_activations=False, block_size=32)
ALLOWED = {"fp32": 1e-3, "fp16": 2e-2}


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("graph, opset", [("fused", 18), ("portable", 23)])
def test_logits_are_pytorchs(device, graph, opset, tmp_path):
    model, path, half = models.build("bert").eval(), tmp_path / "model.onnx", tmp_path / "model_fp16.onnx"
    write(model, path, graph, opset, device)
    lower(path, half, "fp16", RULES, list)
    for file, kind in ((path, "fp32"), (half, "fp16")):
        with Session(file, provider=device) as live:
            batches = random_batches([(1, 1), (5, 12), (4, 33)], models.VOCABULARY, live.inputs, pad_token=1)
            batches[1]["attention_mask"][:, 4::3] = 0
            for batch in batches:
                assert abs(live.forward(batch) - parity.torch_forward(model)(batch)).max() < ALLOWED[kind]
