"""The whole way on real small models of each family: what each stage leaves, and that it is what it says."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

import dsee_compress
from dsee_compress import architectures
from dsee_compress.configs import ValidateConfig
from dsee_compress.errors import UserError
from dsee_compress.store.manifest import Manifest
from dsee_compress.weights import load_tensors

from ..adapters.test_peft import lora
from ..fixtures import models


def test_finetune_learns_with_a_small_share_of_the_parameters(tuned):
    manifest = Manifest.read(tuned)
    assert manifest.stage == "finetune"
    expected = models.LAYERS * 2 * (3 * 2 * models.HEADS * models.HEAD_SIZE + 5)
    assert manifest.metrics.trainable_parameters == expected
    assert manifest.metrics.validation["accuracy"] >= 0.8


def test_the_base_is_left_as_it_was(tuned, pretrained):
    base = load_tensors(tuned / "base.safetensors")
    before = load_tensors(pretrained / "model.safetensors")
    shared = before.get("mpnet.encoder.relative_attention_bias.weight")  # of which every layer has its own
    assert base and all(torch.equal(tensor, before.get(name, shared)) for name, tensor in base.items())


def test_prune_leaves_unequal_layers_that_load_in_two_lines(pruned):
    manifest = Manifest.read(pruned)
    assert sum(manifest.structure.head_counts) == models.LAYERS * models.HEADS - 4
    assert sum(manifest.structure.neuron_counts) == models.LAYERS * models.NEURONS - 36
    model = dsee_compress.load(pruned)
    assert isinstance(model, PreTrainedModel)
    assert [layer.heads for layer in architectures.layers(model)] == manifest.structure.head_counts
    assert [layer.neurons for layer in architectures.layers(model)] == manifest.structure.neuron_counts
    assert manifest.metrics.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert manifest.metrics.validation["accuracy"] >= 0.75


def test_parity_holds_and_is_written_down(pruned, exported, dense):
    metrics = Manifest.read(pruned).metrics
    assert metrics.merge_max_abs <= 1e-4
    assert metrics.removal_max_abs <= 1e-4
    for folder in (exported, dense):
        metrics = Manifest.read(folder).metrics
        assert metrics.export_max_abs <= 1e-3
        assert metrics.fp32.attention == models.LAYERS


@pytest.mark.optimum
def test_optimum_and_a_pipeline_run_the_export_unchanged(exported, pruned, data):
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer, pipeline

    rows = [json.loads(line) for line in (data / "validation.jsonl").read_text().splitlines()]
    texts = [row["text"] for row in rows]
    tokenizer = AutoTokenizer.from_pretrained(exported)
    model = ORTModelForSequenceClassification.from_pretrained(exported)
    theirs = [answer["label"] for answer in pipeline("text-classification", model=model, tokenizer=tokenizer)(texts)]
    torch_model = dsee_compress.load(pruned)
    encoded = tokenizer(texts, padding=True, return_tensors="pt")
    ours = torch_model(**encoded).logits.argmax(-1).tolist()
    assert theirs == [torch_model.config.id2label[label] for label in ours]
    assert set(theirs) == {"good", "bad"}


def test_validate_measures_the_whole_lineage(exported):
    dsee_compress.validate(exported, max_compression_drop=0.5, max_drop=0.5, overwrite=True)
    result = json.loads((exported / "validation.json").read_text())
    assert list(result["accuracy"]) == ["dense_finetuned", "pruned", "onnx_fp32", "onnx_int8"]
    for entry in result["accuracy"].values():
        assert entry["ci95"][0] <= entry["value"] <= entry["ci95"][1]
    assert result["accuracy"]["pruned"]["value"] == pytest.approx(
        Manifest.read(exported.parent / "prune").metrics.validation["accuracy"]
    )
    assert result["predictions"]["pruned"] == result["predictions"]["onnx_fp32"]
    assert {gate["gate"] for gate in result["gates"]} == {"precision", "compression"}


def test_a_result_without_the_parents_is_measured_anew_once_they_are_back(bert_exported, tmp_path):
    run, options = tmp_path / "run", {"max_compression_drop": 0.5, "max_drop": 0.5}
    shutil.copytree(bert_exported.parent, run)

    def measured() -> list[str]:
        dsee_compress.validate(run / "export", **options)
        return list(json.loads((run / "export" / "validation.json").read_text())["accuracy"])

    (run / "prune").rename(run / "away")
    assert measured() == ["onnx_fp32", "onnx_int8"]
    (run / "away").rename(run / "prune")
    assert measured() == ["dense_finetuned", "pruned", "onnx_fp32", "onnx_int8"]


def test_an_allowed_drop_is_in_the_metrics_own_unit():
    assert ValidateConfig.parse({"max_drop": 5, "max_compression_drop": 20}).max_drop == 5
    with pytest.raises(UserError, match="max_drop: input should be greater than or equal to 0"):
        ValidateConfig.parse({"max_drop": -0.1})


def test_benchmark_measures_every_artifact_against_the_baseline(bert_exported, bert_dense):
    dsee_compress.benchmark(
        bert_exported,
        baseline=str(bert_dense),
        samples=20,
        rounds=2,
        warmup=1,
        sequence_length=32,
        threads=1,
        overwrite=True,
    )
    result = json.loads((bert_exported / "benchmark.json").read_text())
    assert [row["artifact"] for row in result["latency"]] == ["dense_fp32", "pruned_fp32", "pruned_int8"]
    for row in result["latency"]:
        samples = np.array(row["raw_ms"])
        assert samples.shape == (2, 10)
        assert row["p50_ms"] == pytest.approx(np.median(samples), rel=1e-3)
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["peak_rss_mb"] > 10
    sizes = [row["size_mb"] for row in result["latency"]]
    assert sizes[0] > sizes[1]
    assert sizes[0] == pytest.approx((bert_dense / "model.onnx").stat().st_size / 1e6)


def test_a_baseline_of_the_same_kind_is_measured_beside(bert_exported, tmp_path):
    other = dsee_compress.export(bert_exported.parent / "prune", output=tmp_path / "other")
    dsee_compress.benchmark(
        other, baseline=str(bert_exported), samples=10, rounds=1, warmup=1, sequence_length=16, threads=1
    )
    result = json.loads((other / "benchmark.json").read_text())
    names = [(row["artifact"], row["baseline"]) for row in result["latency"]]
    assert names == [
        ("baseline_pruned_fp32", True),
        ("baseline_pruned_int8", True),
        ("pruned_fp32", False),
        ("pruned_int8", False),
    ]


def test_heads_can_stay_where_query_and_value_carry_no_update(bert, data, tmp_path):
    tuned = dsee_compress.finetune(
        model=str(bert), data=str(data), output=tmp_path / "tuned", targets="ffn_in", epochs=1
    )
    pruned = dsee_compress.prune(tuned, output=tmp_path / "pruned", heads=0, neurons=0.5, retune_epochs=0)
    assert Manifest.read(pruned).structure.head_counts == [models.HEADS] * models.LAYERS


def test_updates_of_unequal_rank_go_the_whole_way(bert, data, tmp_path):
    options = {
        "targets": "query,value,ffn_in",
        "rank_pattern": "query=2,0.ffn_in=5,ffn_in=0",
        "sparse_pattern": "ffn_in=0",
    }
    tuned = dsee_compress.finetune(model=str(bert), data=str(data), output=tmp_path / "tuned", epochs=2, **options)
    manifest = Manifest.read(tuned)
    assert manifest.config["rank_pattern"] == {"query": 2, "0.ffn_in": 5, "ffn_in": 0}
    width, neurons = models.HEADS * models.HEAD_SIZE, models.NEURONS
    expected = models.LAYERS * (2 * 2 * width + 64 + 8 * 2 * width + 64) + 5 * (width + neurons)
    assert manifest.metrics.trainable_parameters == expected
    pruned = dsee_compress.prune(tuned, output=tmp_path / "pruned", heads=0.25, neurons=0.2, retune_epochs=1)
    assert Manifest.read(pruned).metrics.merge_max_abs <= 1e-4
    again = {**options, "rank_pattern": "query=2,ffn_in=0,0.ffn_in=5"}
    with pytest.raises(dsee_compress.UserError, match="rank_pattern was"):
        dsee_compress.finetune(model=str(bert), data=str(data), output=tmp_path / "tuned", epochs=2, **again)


def test_a_model_is_retuned_under_its_mask_in_bfloat16(bert_tuned, tmp_path):
    for name, options in {"structured": {}, "unstructured": {"weights": 0.3}}.items():
        folder = dsee_compress.prune(
            bert_tuned,
            output=tmp_path / name,
            retune_epochs=4,
            mixed_precision="bf16",
            batch_size=16,
            learning_rate=3e-3,
            **options,
        )
        metrics = Manifest.read(folder).metrics
        assert metrics.training.precision == "bf16"
        assert metrics.validation["accuracy"] >= 0.7


@pytest.mark.parametrize(
    "goal",
    [{"weights": 0.5, "allocation": "per-layer"}, {"weights": 0.5, "allocation": "global"}, {"semi_structured": "2:4"}],
)
def test_zeros_of_single_weights_survive_retune_merge_save_and_export(bert_tuned, tmp_path, goal):
    import onnx

    folder = dsee_compress.prune(bert_tuned, output=tmp_path / "sparse", retune_epochs=1, batch_size=16, **goal)
    model = dsee_compress.load(folder)
    weights = [linear.weight for _, _, linear in architectures.named_linears(model)]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    total = sum(weight.numel() for weight in weights)
    assert zeros / total == pytest.approx(0.5, abs=1e-3)
    assert Manifest.read(folder).metrics.weight_sparsity == zeros / total
    written = dsee_compress.export(folder, output=tmp_path / "onnx", precision="fp32")
    graph = onnx.load(written / "model.onnx").graph
    matrices = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if len(tensor.dims) >= 2]
    assert sum(int((matrix == 0).sum()) for matrix in matrices) >= zeros


def test_an_adapter_of_peft_goes_the_whole_way(bert, data, tmp_path):
    lora("bert", bert, tmp_path / "lora")
    tuned = dsee_compress.import_peft(tmp_path / "lora", model=str(bert), data=str(data), output=tmp_path / "finetune")
    pruned = dsee_compress.prune(tuned, output=tmp_path / "prune", heads=0.25, neurons=0.2, retune_epochs=1)
    exported = dsee_compress.export(pruned, output=tmp_path / "export", precision="fp32")
    dsee_compress.validate(exported, max_compression_drop=0.99)
    assert (exported / "validation.json").is_file()


def test_a_slimmed_model_goes_the_whole_way(bert, data, tmp_path):
    tuned = dsee_compress.finetune(
        model=str(bert), data=str(data), output=tmp_path / "tuned", slimming=1e-3, epochs=5, learning_rate=1e-2
    )
    pruned = dsee_compress.prune(tuned, output=tmp_path / "pruned", criterion="slimming", retune_epochs=1)
    exported = dsee_compress.export(pruned, output=tmp_path / "export", precision="fp32")
    assert Manifest.read(exported).metrics.export_max_abs <= 1e-3
