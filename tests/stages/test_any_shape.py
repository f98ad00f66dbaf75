"""Merge, removal and reload hold for any head count and size, rank, N, targets and mask, not for twelve heads alone."""

import tempfile
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st

from dsee_compress import architectures
from dsee_compress.adapters import model as adapters
from dsee_compress.configs import FinetuneConfig
from dsee_compress.evaluation import parity
from dsee_compress.models import load, save
from dsee_compress.pruning import masking, selection, surgery
from dsee_compress.store.manifest import OF_STAGE
from dsee_compress.store.structure import Structure
from dsee_compress.tasks import Spec

from ..adapters.test_model import EVERY_ROLE
from ..fixtures import manifests, models

IDS = torch.randint(5, models.VOCABULARY, (6, 9), generator=torch.Generator().manual_seed(0))
REAL = (torch.arange(9) < torch.tensor([[9], [1], [4], [9], [7], [2]])).long()


@st.composite
def tuned_models(draw):
    """A small model of any shape with updates of any shape that are not zero, and the config of the updates."""
    heads, size, neurons = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(1, 12))
    hidden, layers = heads * size, draw(st.integers(1, 3))
    shape = {"hidden_size": hidden, "num_attention_heads": heads, "intermediate_size": neurons}
    model = models.build("bert", labels=3, **shape, num_hidden_layers=layers)
    targets = draw(st.lists(st.sampled_from(EVERY_ROLE), min_size=1, unique=True))
    thinnest, smallest = min(hidden, neurons), hidden * min(hidden, neurons)
    rank, sparse = draw(st.integers(0, thinnest)), draw(st.integers(0, smallest))
    options = {"model": "x", "data": "x", "rank": rank, "sparse": sparse if rank else max(sparse, 1)}
    config = FinetuneConfig.parse(options | {"targets": targets, "alpha": draw(st.floats(0.5, 32))})
    adapters.insert(model, config)
    torch.manual_seed(draw(st.integers(0, 9)))
    for layer in adapters.updates(model).values():
        torch.nn.init.normal_(layer.up, std=0.1)
        torch.nn.init.normal_(layer.values, std=0.1)
    return model.eval(), config


def logits(model):
    with torch.no_grad():
        return [model(IDS, REAL).logits.numpy()]


def write_manifest(folder: Path, stage: str, config: FinetuneConfig, structure: Structure) -> None:
    task = Spec(data="x", text=["text"], label="label", labels=["a", "b", "c"], max_length=9)
    described = {"config": config.resolved(), "architecture": "bert", "base": "x", "task": task, "parent": None}
    rest = {"inputs": {}, "versions": {}, "seed": 0, "metrics": manifests.METRICS[stage]}
    OF_STAGE[stage](structure=structure, **described, **rest).write(folder)


@given(tuned_models(), st.data())
def test_structured(tuned, data):
    model, config = tuned
    whole = selection.whole(model)

    def kept(units: list[list[int]]) -> list[list[int]]:
        return [sorted(data.draw(st.sets(st.sampled_from(layer), min_size=1))) for layer in units]

    structure = Structure(heads=kept(whole.heads), neurons=kept(whole.neurons))
    with tempfile.TemporaryDirectory() as folder:
        adapters.save(model, Path(folder))
        write_manifest(Path(folder), "finetune", config, whole)
        parity.passed(parity.RELOAD, logits(model), logits(adapters.load(Path(folder))))
    masking.mask_structure(model, structure)
    masked = logits(model)
    surgery.remove(model, structure)
    parity.passed(parity.REMOVAL, masked, logits(model))
    cut = logits(model)
    adapters.merge(model)
    parity.passed(parity.MERGE, cut, logits(model))
    reloads(model, config, structure)
    assert [layer.heads for layer in architectures.layers(model)] == structure.head_counts


@given(tuned_models(), st.floats(0, 0.99), st.integers(0, 9))
def test_unstructured(tuned, share, seed):
    model, config = tuned
    generator = torch.Generator().manual_seed(seed)
    shapes = [linear.weight.shape for _, _, linear in architectures.named_linears(model)]
    masks = [torch.rand(shape, generator=generator) >= share for shape in shapes]
    masking.mask_weights(model, masks)
    masked = logits(model)
    adapters.merge(model)
    parity.passed(parity.MERGE, masked, logits(model))
    for (_, _, linear), mask in zip(architectures.named_linears(model), masks, strict=True):
        assert not linear.weight[~mask].any()
    reloads(model, config, selection.whole(model))


def reloads(model, config: FinetuneConfig, structure: Structure) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder))
        write_manifest(Path(folder), "prune", config, structure)
        parity.passed(parity.RELOAD, logits(model), logits(load(Path(folder))))
