"""Families with another's table on the whole way: what is their own is names of modules, tokenizers and ids."""

import json

import pytest

import dsee_compress
from dsee_compress.costs.flops import Flops
from dsee_compress.evaluation import parity, shares
from dsee_compress.evaluation.inputs import random_batches
from dsee_compress.evaluation.session import Session
from dsee_compress.store.manifest import Manifest

from ..evaluation.test_shares import in_fp32
from ..fixtures import models


def write_pruned(family, data, root, **update):
    """A layer of two heads, and two of one, of a model that learnt its task; update: options of `finetune`."""
    base = models.write_model(family, root / "pretrained")
    options = {"batch_size": 16, "learning_rate": 1e-2}
    tuned = dsee_compress.finetune(
        model=str(base), data=str(data), output=root / "finetune", epochs=12, rank=3, sparse=5, **update, **options
    )
    assert Manifest.read(tuned).metrics.validation["accuracy"] >= 0.8
    return dsee_compress.prune(
        tuned, output=root / "prune", heads=0.67, neurons=0.3, allocation="global", retune_epochs=1, **options
    )


def require_exported(pruned, data, style, output) -> Manifest:
    """In one attention node a layer, with the answers of PyTorch; returns what the export says of itself."""
    folder = dsee_compress.export(pruned, output=output, graph=style, precision="fp32,int8", trim_vocabulary=str(data))
    manifest = Manifest.read(folder)
    assert sorted(manifest.structure.head_counts) == [1, 1, 2]
    assert manifest.metrics.fp32.attention == models.LAYERS
    assert manifest.metrics.export_max_abs < 1e-4 and manifest.metrics.vocabulary.after < models.VOCABULARY
    dsee_compress.validate(folder, max_drop=0.9, max_compression_drop=0.9)
    judged = json.loads((folder / "validation.json").read_text())
    assert judged["predictions"]["pruned"] == judged["predictions"]["onnx_fp32"]
    return manifest


@pytest.fixture(scope="module", params=models.KIN)
def kin(request):
    return request.param


@pytest.fixture(scope="module")
def pruned(kin, data, tmp_path_factory):
    """A layer of two heads, and two of one."""
    return write_pruned(kin, data, tmp_path_factory.mktemp(kin))


@pytest.mark.parametrize("style", ["fused", "portable"])
def test_unequal_layers_are_exported(pruned, data, style, tmp_path):
    require_exported(pruned, data, style, tmp_path / "export")


def test_padding_flops_and_sizes(pruned, tmp_path):
    model = dsee_compress.load(pruned)
    structure = Manifest.read(pruned).structure
    folder = dsee_compress.export(pruned, output=tmp_path / "export", precision="fp32")
    with Session(folder / "model.onnx", threads=1) as session:
        batches = random_batches([(1, 1), (5, 12), (4, 33)], 200, session.inputs, pad_token=1)
        batches[1]["attention_mask"][:, 4::3] = 0
        for batch in batches:
            assert abs(session.forward(batch) - parity.torch_forward(model)(batch)).max() < 1e-4
    roberta = models.build("roberta").config
    assert Flops(model.config, 16).of(structure) == Flops(roberta, 16).of(structure)
    sizes = {part: round(size * 1e6) for part, size in shares.megabytes(folder / "model.onnx").items()}
    assert sizes == in_fp32(model, one_query=True)
