"""A decoder through ONNX Runtime's CUDA provider writes what PyTorch writes. The body runs on the CPU too."""

import pytest
import torch

from dsee_compress.evaluation import session
from dsee_compress.evaluation.generator import OnnxGenerator
from dsee_compress.evaluation.inputs import random_prompts

from ..fixtures import decoders
from ..fixtures.decoder_stages import pruned, write_prune
from ..fixtures.graphs import write

HAS_CUDA = session.PROVIDERS["cuda"] in session.runtime().get_available_providers()
CUDA = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not HAS_CUDA, reason="ONNX Runtime has no CUDA provider here")],
)
OPTIONS = {"do_sample": False, "max_new_tokens": 16, "eos_token_id": None, "pad_token_id": 0}


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("family", decoders.FAMILIES)
def test_texts_are_pytorchs(family, device, tmp_path):
    folder, model = write_prune(family, tmp_path / "prune"), pruned(family)
    write(model, folder / "model.onnx", "fused", 18)
    made = random_prompts([(4, 11)], decoders.VOCABULARY)[0]
    batch = {name: torch.as_tensor(made[name]) for name in ("input_ids", "attention_mask")}
    with OnnxGenerator(folder / "model.onnx", provider=device) as generator:
        placed = {name: tensor.to(device) for name, tensor in batch.items()}
        for search in ({}, {"num_beams": 4}):
            written = generator.generate(**placed, **OPTIONS, **search)
            assert torch.equal(written.cpu(), model.generate(**batch, **OPTIONS, **search))
