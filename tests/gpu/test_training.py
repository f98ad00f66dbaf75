"""What a CUDA card must not change, and what it costs there. Each body runs on the CPU too, where it is small."""

import json
import statistics
import time
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertForSequenceClassification

import dsee_compress
from dsee_compress.adapters import model as adapters
from dsee_compress.configs import FinetuneConfig
from dsee_compress.store.manifest import Manifest

from ..conftest import FINETUNE
from ..fixtures import models

CUDA = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device")],
)
every_device = pytest.mark.parametrize("device", ["cpu", CUDA])


@pytest.fixture(scope="module")
def still(tmp_path_factory) -> Path:
    """A small model without dropout, whose random numbers would depend on the device."""
    folder = models.write_model("bert", tmp_path_factory.mktemp("still") / "bert")
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | off))
    return folder


@pytest.fixture
def full_fp32():
    """Products in fp32 as on the CPU: no TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@every_device
def test_training_in_fp32_is_that_of_the_cpu(still, data, tmp_path, full_fp32, device):
    options = {"model": str(still), "data": str(data), "targets": "query,value,ffn_in", "mixed_precision": "fp32"}
    ids = torch.randint(5, 200, (8, 20), generator=torch.Generator().manual_seed(3))
    losses, logits, places = [], [], []
    for name in ("cpu", device):
        folder = dsee_compress.finetune(
            **options, output=tmp_path / f"{len(losses)} {name}", device=name, epochs=3, batch_size=16, rank=3, sparse=5
        )
        training = Manifest.read(folder).metrics.training
        assert training.device == name
        losses.append(training.loss)
        model = adapters.load(folder)
        places.append({name: t for name, t in model.state_dict().items() if name.endswith((".rows", ".columns"))})
        with torch.inference_mode():
            logits.append(model(ids).logits)
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
    assert places[0] and all(torch.equal(tensor, places[1][name]) for name, tensor in places[0].items())
    torch.testing.assert_close(logits[0], logits[1], atol=2e-3, rtol=0)


@every_device
def test_retuning_under_a_mask_is_that_of_the_cpu(bert_tuned, tmp_path, full_fp32, device):
    accuracies = []
    options = {"mixed_precision": "fp32", "retune_epochs": 2}
    for name in ("cpu", device):
        output = tmp_path / f"{len(accuracies)} {name}"
        folder = dsee_compress.prune(bert_tuned, output=output, device=name, **options)
        manifest = Manifest.read(folder)
        assert manifest.metrics.removal_max_abs <= 1e-4
        accuracies.append(manifest.metrics.validation["accuracy"])
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.15), "up to the dropout"


@every_device
def test_bfloat16_reaches_what_fp32_reaches(still, data, tmp_path, device):
    accuracies = {}
    for precision in ("fp32", "bf16"):
        folder = dsee_compress.finetune(
            model=str(still),
            data=str(data),
            output=tmp_path / precision,
            device=device,
            mixed_precision=precision,
            **FINETUNE,
        )
        metrics = Manifest.read(folder).metrics
        assert metrics.training.precision == precision
        accuracies[precision] = metrics.validation["accuracy"]
    assert min(accuracies.values()) >= 0.8
    assert accuracies["bf16"] == pytest.approx(accuracies["fp32"], abs=0.1)


@every_device
def test_step_time_and_peak_memory_beside_lora(device, record_property, capsys):
    """Recorded and shown, not judged: rank 8 on query and value of BERT-base, batch 32, 128 tokens, bf16 (on CUDA)."""
    steps, shape = (30, (32, 128)) if device == "cuda" else (2, (2, 16))
    size = {} if device == "cuda" else models._SHAPE | {"vocab_size": 200}
    figures: dict[str, list[dict[str, float]]] = {"dsee": [], "lora": []}
    for _ in range(3):
        for name, build in (("dsee", with_dsee), ("lora", with_lora)):
            torch.manual_seed(0)
            model = build(BertForSequenceClassification(BertConfig(**size))).to(device).train()
            figures[name].append(measure(model, device, shape, steps))
            del model
    with capsys.disabled():
        print()
        for name, rounds in figures.items():
            for figure in rounds[0]:
                value = statistics.median(measured[figure] for measured in rounds)
                record_property(f"{device} {name} {figure}", value)
                print(f"{device} {name} {figure}: {value:.2f}")


def with_dsee(model):
    adapters.insert(model, FinetuneConfig(model="x", data="x", rank=8, sparse=64))
    return model


def with_lora(model):
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"], modules_to_save=["pooler", "classifier"])
    return get_peft_model(model, config)


def measure(model, device: str, shape: tuple[int, int], steps: int) -> dict[str, float]:
    """Median milliseconds of a training step, and the peak of what PyTorch allocated on the card during them, MB."""
    cuda = device == "cuda"
    ids = torch.randint(5, 200, shape, device=device)
    labels = torch.zeros(shape[0], dtype=torch.int64, device=device)
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad])
    times = []
    for index in range(steps + 5):
        if cuda and index == 5:
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=cuda):
            loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if cuda:
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - started))
    assert torch.isfinite(loss)
    memory = {"peak_mb": torch.cuda.max_memory_allocated() / 1e6} if cuda else {}
    return {"step_ms": statistics.median(times[5:]), **memory}
