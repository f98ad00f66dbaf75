"""Decoders like Llama on the whole way: biases, normalised heads, windows and heads of another size are their own."""

import json
import math

import onnx
import pytest

import dsee_compress
from dsee_compress import architectures
from dsee_compress.costs.flops import Flops
from dsee_compress.evaluation import shares
from dsee_compress.store.manifest import Manifest

from ..fixtures import decoder_stages, decoders
from ..fixtures.graphs import write

WIDTH, HEAD_SIZE = decoders.HEADS * decoders.HEAD_SIZE, 16
QUERIES = 2
"""Heads that share a key and a value."""


@pytest.fixture(scope="module", params=decoders.KIN)
def kin(request):
    return request.param


@pytest.fixture(scope="module")
def pruned(kin, meanings, tmp_path_factory):
    """A layer of two groups of heads, and two of one; Qwen2 alone has no size of heads of its own."""
    root = tmp_path_factory.mktemp(kin)
    changes = {} if kin == "qwen2" else {"head_dim": HEAD_SIZE}
    base = decoders.write_model(kin, root / "pretrained", **changes)
    options = {"model": str(base), "data": str(meanings), "task": "generation"} | decoder_stages.FINETUNE
    tuned = dsee_compress.finetune(output=root / "finetune", **options | {"epochs": 3})
    goal = {"heads": 0.56, "neurons": 0.3, "allocation": "global", "retune_epochs": 1}
    return dsee_compress.prune(tuned, output=root / "prune", **decoder_stages.PRUNE | {"flops_saved": None} | goal)


@pytest.mark.parametrize("style", ["fused", "portable"])
def test_a_pruned_model_writes_the_same_texts(pruned, style, tmp_path):
    folder = dsee_compress.export(pruned, output=tmp_path / "export", graph=style, precision="fp32,int8")
    manifest, structure = Manifest.read(folder), Manifest.read(pruned).structure
    assert sorted(structure.head_counts) == [1, 1, 2]
    assert manifest.metrics.fp32.attention == decoders.LAYERS and manifest.metrics.export_max_abs < 1e-4
    size = architectures.layers(dsee_compress.load(pruned))[0].head_size
    assert manifest.metrics.memory_bytes_per_token == 4 * 2 * 4 * size
    dsee_compress.validate(folder, max_drop=0.9, max_compression_drop=0.99, max_new_tokens=12)
    written = json.loads((folder / "validation.json").read_text())["predictions"]
    assert written["pruned"] == written["onnx_fp32"]


def test_every_product_is_counted(pruned):
    model, length, products = dsee_compress.load(pruned), 16, 0
    structure = Manifest.read(pruned).structure
    size = architectures.layers(model)[0].head_size
    for heads, neurons in zip(structure.head_counts, structure.neuron_counts, strict=True):
        keys = heads * size
        inner = keys * QUERIES
        products += length * (2 * WIDTH * inner + 2 * WIDTH * keys + 3 * WIDTH * neurons + 2 * length * inner)
    # Rotary angles are a few products, too.
    assert Flops(model.config, length).of(structure) == pytest.approx(2 * products, rel=2e-3)


def test_every_weight_is_found_in_its_part(pruned, tmp_path):
    model, path = dsee_compress.load(pruned), tmp_path / "model.onnx"
    write(model, path, "fused", 18)
    found, graph = shares.megabytes(path), onnx.load(path).graph
    angles = sum(math.prod(entry.dims) for entry in graph.initializer if "lifted_tensor" in entry.name)
    for part, name, beside in (("attention", "self_attn", angles), ("ffn", "mlp", 0)):
        modules = [layer.module.get_submodule(name) for layer in architectures.layers(model)]
        weights = sum(weight.numel() for module in modules for weight in module.parameters())
        assert found[part] == pytest.approx((weights + beside) * 4e-6, rel=1e-2)
