"""A grid of settings, other folders in the same turns, and what is not measured because it would be no figure of it."""

import json
from itertools import product

import onnx
import pytest

import dsee_compress
from dsee_compress.errors import UserError
from dsee_compress.store.manifest import Manifest

FEW = {"samples": 10, "rounds": 2, "warmup": 1}


@pytest.fixture(scope="module")
def cut(bert_tuned, tmp_path_factory):
    root = tmp_path_factory.mktemp("cut")
    pruned = dsee_compress.prune(bert_tuned, output=root / "prune", heads=0.5, retune_epochs=0)
    return dsee_compress.export(pruned, output=root / "export")


def measured(folder) -> dict:
    return json.loads((folder / "benchmark.json").read_text())


def test_a_grid_has_a_row_for_every_artifact_in_every_setting(cut):
    dsee_compress.benchmark(cut, batch="1,3", sequence_length=[8, 40], threads="1,2", overwrite=True, **FEW)
    result = measured(cut)
    rows = result["latency"] + result["grid"]
    settings = [(row["batch"], row["sequence_length"], row["threads"]) for row in rows]
    assert settings == [setting for setting in product([1, 3], [8, 40], [1, 2]) for _ in range(2)]
    assert len(result["latency"]) == 2
    assert all(row["speedup"]["value"] == 1.0 for row in rows if row["artifact"] == "pruned_fp32")
    assert all(row["cold_start_ms"] > row["p50_ms"] for row in rows)


def test_folders_of_one_name_are_told_apart(cut, tmp_path):
    for place in ("one", "other"):
        (tmp_path / place / "export").mkdir(parents=True)
        (tmp_path / place / "export" / "model.onnx").write_bytes((cut / "model.onnx").read_bytes())
    folders = [str(tmp_path / place / "export") for place in ("one", "other", "one")]
    dsee_compress.benchmark(cut, compare=folders, sequence_length=8, overwrite=True, **FEW)
    names = [row["artifact"] for row in measured(cut)["latency"]]
    assert names == ["pruned_fp32", "pruned_int8", "one/export/model.onnx", "other/export/model.onnx"]


@pytest.mark.parametrize(
    "inputs, output, sentence",
    [
        (["input_ids"], "last_hidden_state", "has no output 'logits', only last_hidden_state"),
        (["pixels"], "logits", "has an input 'pixels', and is given input_ids, attention_mask, token_type_ids"),
    ],
)
def test_a_model_of_another_kind_is_refused(cut, tmp_path, inputs, output, sentence):
    int64 = onnx.TensorProto.INT64
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", inputs, [output])],
        "other",
        [onnx.helper.make_tensor_value_info(name, int64, ["batch", "length"]) for name in inputs],
        [onnx.helper.make_tensor_value_info(output, int64, ["batch", "length"])],
    )
    (tmp_path / "other").mkdir()
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), tmp_path / "other" / "model.onnx")
    with pytest.raises(UserError, match=sentence):
        dsee_compress.benchmark(cut, compare=[str(tmp_path / "other")], sequence_length=8, overwrite=True, **FEW)


@pytest.mark.parametrize("option, least", [("sequence_length", 2), ("batch", 1), ("threads", 1)])
def test_a_grid_begins_where_a_single_setting_does(cut, option, least):
    with pytest.raises(UserError, match=f"greater than or equal to {least}"):
        dsee_compress.benchmark(cut, **{option: [least - 1, 8]}, **FEW)


def test_folders_of_others_are_measured_in_the_same_turns(cut, bert_tuned, tmp_path):
    """One of ours, and one that Optimum's user might have: a model.onnx and nothing else."""
    other = dsee_compress.export(bert_tuned, output=tmp_path / "whole", precision="fp32")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "plain.onnx").write_bytes((other / "model.onnx").read_bytes())
    folders = [str(other), str(tmp_path / "bare")]
    dsee_compress.benchmark(cut, compare=folders, sequence_length=8, overwrite=True, **FEW)
    result = measured(cut)
    names = ["pruned_fp32", "pruned_int8", "whole/model.onnx", "bare/plain.onnx"]
    assert [row["artifact"] for row in result["latency"]] == names
    assert [row["baseline"] for row in result["latency"]] == [False, False, True, True]
    before = (cut / "benchmark.json").stat().st_mtime_ns
    dsee_compress.benchmark(cut, compare=folders, sequence_length=8, **FEW)
    assert (cut / "benchmark.json").stat().st_mtime_ns == before
    (tmp_path / "bare" / "plain.onnx").write_bytes((cut / "model.onnx").read_bytes())
    dsee_compress.benchmark(cut, compare=folders, sequence_length=8, **FEW)
    assert (cut / "benchmark.json").stat().st_mtime_ns > before


def test_a_folder_without_models_and_the_folder_itself_are_not_compared(cut, tmp_path):
    with pytest.raises(UserError, match="has no ONNX model to compare with"):
        dsee_compress.benchmark(cut, compare=str(tmp_path), **FEW)
    with pytest.raises(UserError, match="would be compared with itself; give another folder"):
        dsee_compress.benchmark(cut, compare=str(cut), **FEW)


def test_what_is_for_another_device_is_exported_validated_and_reported_but_not_measured(
    bert_tuned, data, tmp_path, capsys
):
    (tmp_path / "board.yaml").write_text("description: our board\nmachines: [riscv64]\n")
    pruned = dsee_compress.prune(bert_tuned, output=tmp_path / "prune", heads=0.5, retune_epochs=0)
    folder = dsee_compress.export(pruned, output=tmp_path / "export", target=str(tmp_path / "board.yaml"))
    dense = dsee_compress.export(bert_tuned, output=tmp_path / "dense", precision="fp32")
    dsee_compress.validate(folder, max_drop=0.9, max_compression_drop=0.9)
    dsee_compress.benchmark(folder, baseline=str(dense), **FEW)
    assert "not measured here: the target is" in capsys.readouterr().err
    result = measured(folder)
    assert result["latency"] == result["grid"] == []
    assert "for riscv64, and this machine is" in result["not_measured"]
    dsee_compress.report(folder)
    page = (folder / "report.html").read_text()
    assert "not measured" in page and "our board" in page
    report = json.loads((folder / "report.json").read_text())
    assert report["latency"] == [] and report["target"]["machines"] == ["riscv64"]
    sizes = {file["artifact"]: file["size_mb"] for file in report["files"]}
    assert sizes["pruned_int8"] == pytest.approx((folder / "model_int8.onnx").stat().st_size / 1e6)


def test_cuda_is_measured_on_cuda_or_refused(bert_tuned, tmp_path):
    folder = dsee_compress.export(bert_tuned, output=tmp_path / "export", target="cuda")
    assert {path.name for path in folder.glob("*.onnx")} == {"model.onnx", "model_fp16.onnx"}
    assert Manifest.read(folder).metrics.target["provider"] == "cuda"
    with pytest.raises(UserError, match="provider cuda was asked for, and this ONNX Runtime has only"):
        dsee_compress.benchmark(folder, **FEW)
    dsee_compress.benchmark(folder, provider="cpu", sequence_length=8, **FEW)
    assert [row["provider"] for row in measured(folder)["latency"]] == ["cpu", "cpu"]
