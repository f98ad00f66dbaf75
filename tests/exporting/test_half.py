"""fp16 of models whose numbers it does not hold: what stays in fp32, judged by arithmetic that is truly in fp16."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from onnxruntime.transformers.onnx_model import OnnxModel

from dsee_compress.errors import GateError
from dsee_compress.evaluation.inputs import random_batches, random_prompts
from dsee_compress.evaluation.session import Session
from dsee_compress.exporting import files, precision, probe
from dsee_compress.exporting.passes import half

from ..fixtures import decoders, graphs, models

RULES = precision.Rules(reduce_range=True, signed_activations=False, block_size=32)
PORTABLE, FUSED, CARD = ("portable", 23, "cpu"), ("fused", 18, "cpu"), ("fused", 18, "cuda")


def write(model: torch.nn.Module, path: Path, style: tuple[str, int, str]) -> list[dict]:
    """The model as a graph in `path`, and batches for it."""
    graphs.write(model, path, *style)
    with Session(path) as live:
        return random_batches([(6, 12)] * 2, models.VOCABULARY, live.inputs, pad_token=1)


def fp16(path: Path, batches: list[dict]) -> dict:
    """The figures of the graph in `path`, which is in fp16 beside it."""
    return graphs.lower(path, path.with_name("half.onnx"), "fp16", RULES, lambda: batches)


def logits(path: Path, batches: list[dict]) -> np.ndarray:
    return probe.logits(files.load(path), batches)


def plain_fp16(source: Path, target: Path) -> Path:
    """All of a graph in fp16, whatever it computes."""
    model = OnnxModel(onnx.load(source))
    model.disable_shape_inference()
    model.convert_float_to_float16(use_symbolic_shape_infer=False, keep_io_types=True)
    model.save_model_to_file(str(target))
    return target


def in_numpy(path: Path, batch: dict) -> np.ndarray:
    """The logits by ONNX's reference, whose fp16 is numpy's: every node rounds and overflows."""
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(str(path)).run(["logits"], batch)[0]


def scaled_neurons(times: float) -> torch.nn.Module:
    """A model that is the same in fp32, three neurons of which hold so many times as much."""
    model = models.build("bert").eval()
    layer = model.bert.encoder.layer[1]
    with torch.no_grad():
        for tensor in (layer.intermediate.dense.weight, layer.intermediate.dense.bias):
            tensor[:3] *= times
        layer.output.dense.weight[:, :3] /= times
    return model


def test_neurons_beyond_the_range_stay_in_fp32_and_the_logits_right(tmp_path):
    path, model = tmp_path / "model.onnx", scaled_neurons(6e5)
    batches = write(model, path, PORTABLE)
    wanted = logits(path, batches[:1])
    assert np.isnan(in_numpy(plain_fp16(path, tmp_path / "plain.onnx"), batches[0])).all()
    figures = fp16(path, batches)
    assert np.abs(in_numpy(tmp_path / "half.onnx", batches[0]) - wanted).max() < 5e-3
    kinds = {node.name: node.op_type for node in onnx.load(path).graph.node}
    assert [kinds[name] for name in figures["fp32_nodes"]] == ["MatMul", "Add", "Gelu", "MatMul"]
    assert figures["signal_to_noise_db"] > 50 and figures["range_of"] == "training examples"
    weights = onnx.load(tmp_path / "half.onnx").graph.initializer
    large = [entry for entry in weights if np.prod(entry.dims) > 64 and entry.data_type == onnx.TensorProto.FLOAT]
    assert len(large) == 2, "the weights of the two products alone"


@pytest.mark.parametrize("style", [FUSED, CARD], ids=["cpu", "cuda"])
def test_so_it_is_in_onnx_runtimes_operators(tmp_path, style):
    path = tmp_path / "model.onnx"
    batches = write(scaled_neurons(6e5), path, style)
    figures = fp16(path, batches)
    kinds = {node.name: node.op_type for node in onnx.load(path).graph.node}
    assert [kinds[name] for name in figures["fp32_nodes"]] == ["MatMul", "BiasGelu", "MatMul"]
    assert probe.decibels(logits(path, batches), logits(tmp_path / "half.onnx", batches)) > 40
    assert not list(tmp_path.glob("*.variant.onnx"))


@pytest.mark.parametrize("style", [PORTABLE, FUSED, CARD], ids=["portable", "cpu", "cuda"])
def test_a_model_in_the_range_is_fp16_all_through(tmp_path, style):
    path = tmp_path / "model.onnx"
    batches = write(models.build("bert").eval(), path, style)
    figures = fp16(path, batches)
    assert figures["fp32_nodes"] == []
    assert (tmp_path / "half.onnx").read_bytes() == plain_fp16(path, tmp_path / "plain.onnx").read_bytes()


def test_values_near_the_end_count_as_beyond_it(tmp_path):
    """Neurons at a third and at a tenth of the end."""
    path = tmp_path / "model.onnx"
    batches = write(scaled_neurons(1), path, FUSED)
    gelu = [node.output[0] for node in onnx.load(path).graph.node if node.op_type == "BiasGelu"][1]
    largest = max(np.abs(found[gelu][..., :3]).max() for found in probe.tensors(files.load(path), [gelu], batches))
    for share, kept in ((1 / 3, True), (1 / 10, False)):
        batches = write(scaled_neurons(65504 * share / largest), path, FUSED)
        assert bool(fp16(path, batches)["fp32_nodes"]) == kept


def test_squares_in_fp16_keep_the_normalisation_in_fp32_on_cards(tmp_path):
    """A sum of 300 in every channel is in the range; its square, which SkipLayerNormalization takes in fp16, is not."""
    path, model = tmp_path / "model.onnx", models.build("bert").eval()
    with torch.no_grad():
        model.bert.encoder.layer[1].output.dense.bias[::2] += 300
        model.bert.encoder.layer[1].output.dense.bias[1::2] -= 300
    batches = write(model, path, CARD)
    figures = fp16(path, batches)
    kinds = {node.name: node.op_type for node in onnx.load(path).graph.node}
    assert [kinds[name] for name in figures["fp32_nodes"]] == ["SkipLayerNormalization"]
    batches = write(model, path, FUSED)
    assert fp16(path, batches)["fp32_nodes"] == [], "in fp32 anyway"


@pytest.mark.parametrize("style", [CARD, PORTABLE], ids=["fused", "portable"])
def test_scores_are_looked_at_before_they_are_scaled(tmp_path, style):
    path, model = tmp_path / "model.onnx", models.build("bert").eval()
    own = model.bert.encoder.layer[0].attention.self
    with torch.no_grad():
        for linear in (own.query, own.key):
            linear.weight.mul_(600)
    batches = write(model, path, style)
    figures = fp16(path, batches)
    kinds = {node.name: node.op_type for node in onnx.load(path).graph.node}
    assert [kinds[name] for name in figures["fp32_nodes"]] == ["Attention"]


def test_weights_too_small_for_fp16_stay_in_fp32(tmp_path):
    path, model = tmp_path / "model.onnx", models.build("bert").eval()
    layer = model.bert.encoder.layer[1]
    with torch.no_grad():
        layer.output.dense.weight.mul_(1e-6)
        layer.output.dense.bias.mul_(1e-6)
    batches = write(model, path, FUSED)
    figures = fp16(path, batches)
    inputs = {node.name: list(node.input) for node in onnx.load(path).graph.node}
    (name,) = figures["fp32_nodes"]
    weight = next(entry for entry in onnx.load(path).graph.initializer if entry.name == inputs[name][1])
    assert np.abs(onnx.numpy_helper.to_array(weight)).max() < 1e-6


def test_a_weight_beyond_the_end_stays_in_fp32(tmp_path):
    path, model = tmp_path / "model.onnx", models.build("bert").eval()
    with torch.no_grad():
        model.bert.encoder.layer[0].attention.output.LayerNorm.weight[0] = 1e5
    batches = write(model, path, FUSED)
    figures = fp16(path, batches)
    assert "LayerNormalization" in {
        node.op_type for node in onnx.load(path).graph.node if node.name in figures["fp32_nodes"]
    }
    assert probe.decibels(logits(path, batches), logits(tmp_path / "half.onnx", batches)) > 30


def test_a_model_that_would_stay_in_fp32_is_refused(tmp_path):
    path, model = tmp_path / "model.onnx", models.build("bert").eval()
    with torch.no_grad():
        model.bert.embeddings.LayerNorm.weight.mul_(1e5)
        for layer in model.bert.encoder.layer:
            layer.attention.output.LayerNorm.weight.mul_(1e5)
            layer.output.LayerNorm.weight.mul_(1e5)
    batches = write(model, path, FUSED)
    with pytest.raises(GateError, match=r"gate 'fp16' failed: \d+% of the weights are read where numbers come too"):
        fp16(path, batches)


def test_what_no_rule_foresees_is_seen_in_the_logits(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    batches = write(scaled_neurons(6e5), path, FUSED)
    monkeypatch.setattr(half.ranges, "LARGEST", 1e30)
    with pytest.raises(GateError, match="gate 'fp16' failed: 100% of the examples' logits are no finite numbers"):
        fp16(path, batches)


@pytest.mark.parametrize("graph, opset", [("fused", 18), ("portable", 23)])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_decoders_massive_activation_stays_in_fp32(tmp_path, family, graph, opset):
    """A neuron of the second layer that is huge for every token, as decoders have them, and its row that makes up."""
    path, model = tmp_path / "model.onnx", decoders.build(family).eval()
    with torch.no_grad():
        if family == "gpt2":
            block = model.transformer.h[1].mlp
            block.c_fc.weight[0] *= 1e6
            block.c_fc.bias[0] *= 1e6
            block.c_proj.weight[:, 0] /= 1e6
        else:
            block = model.model.layers[1].mlp
            block.up_proj.weight[0] *= 1e8
            block.down_proj.weight[:, 0] /= 1e8
    graphs.write(model, path, graph, opset)
    batches = random_prompts([(4, 12)] * 2, decoders.VOCABULARY)
    wanted = next(probe.tensors(files.load(path), ["logits"], batches[:1]))["logits"]
    figures = fp16(path, batches)
    found = next(probe.tensors(files.load(tmp_path / "half.onnx"), ["logits"], batches[:1]))["logits"]
    real = batches[0]["attention_mask"] == 1
    assert figures["fp32_nodes"] and np.abs(found - wanted)[real].max() < 2e-2
    kept = {node.op_type for node in onnx.load(path).graph.node if node.name in figures["fp32_nodes"]}
    assert "MatMul" in kept or "Gemm" in kept
    assert not kept & {"MultiHeadAttention", "GroupQueryAttention", "Attention"}
