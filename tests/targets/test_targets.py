"""What targets there are, how one is chosen, and what it makes of an export."""

import platform

import onnx
import pytest

import dsee_compress
from dsee_compress import targets
from dsee_compress.errors import UserError
from dsee_compress.evaluation import environment, session
from dsee_compress.exporting import ort_format
from dsee_compress.store.manifest import Manifest


def test_every_target_of_ours_is_valid_and_named():
    assert targets.known() == ["arm64", "cuda", "mobile", "x86-avx2", "x86-vnni"]
    for name in targets.known():
        assert targets.load(name).description


@pytest.mark.parametrize(
    "machine, flags, name",
    [
        ("x86_64", {"avx2"}, "x86-avx2"),
        ("x86_64", {"avx2", "avx512_vnni"}, "x86-vnni"),
        ("AMD64", {"avx_vnni"}, "x86-vnni"),
        ("aarch64", {"asimddp"}, "arm64"),
        ("riscv64", set(), "x86-avx2"),
    ],
)
def test_the_host_is_the_target_that_its_cpu_is(monkeypatch, machine, flags, name):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(environment, "cpu_flags", lambda: flags)
    assert targets.host() == name


def test_a_target_of_ones_own(bert_tuned, tmp_path):
    (tmp_path / "board.yaml").write_text(
        "description: our board\nmachines: [riscv64]\ngraph: portable\nprecision: [fp32, int4]\n"
    )
    folder = dsee_compress.export(bert_tuned, output=tmp_path / "out", target=str(tmp_path / "board.yaml"))
    manifest = Manifest.read(folder)
    assert {path.name for path in folder.glob("*.onnx")} == {"model.onnx", "model_int4.onnx"}
    assert manifest.config["graph"] == "portable" and manifest.config["opset"] == 23
    assert manifest.metrics.target["description"] == "our board"


def test_a_target_that_changed_is_another_one(bert_tuned, tmp_path, monkeypatch):
    path = tmp_path / "board.yaml"
    path.write_text("description: our board\nmachines: []\nreduce_range: true\nprecision: fp32")
    monkeypatch.chdir(tmp_path)
    folder = dsee_compress.export(bert_tuned, output=tmp_path / "out", target="board.yaml")
    written = (folder / "dsee.json").stat().st_mtime_ns
    monkeypatch.chdir("/")
    dsee_compress.export(bert_tuned, output=tmp_path / "out", target=str(path))
    assert (folder / "dsee.json").stat().st_mtime_ns == written
    path.write_text(path.read_text().replace("true", "false"))
    with pytest.raises(UserError, match=r"target was '\w+' and is now '\w+'\); use --overwrite"):
        dsee_compress.export(bert_tuned, output=tmp_path / "out", target=str(path))


@pytest.mark.parametrize(
    "content, sentence",
    [
        (None, "there is no target '.*board.yaml'; known are arm64, cuda, mobile, x86-avx2, x86-vnni, or give a YAML"),
        ("machines: [x", "is not YAML"),
        ("- a", "must map options to values"),
        ("description: x\nmachines: []\nprovder: cpu", "unknown option 'provder'; did you mean 'provider'"),
        ("description: x", "option 'machines' is missing"),
    ],
)
def test_a_target_that_cannot_be_read(bert_tuned, tmp_path, content, sentence):
    if content is not None:
        (tmp_path / "board.yaml").write_text(content)
    with pytest.raises(UserError, match=sentence):
        dsee_compress.export(bert_tuned, output=tmp_path / "out", target=str(tmp_path / "board.yaml"))


@pytest.mark.parametrize("target, zero_point", [("x86-avx2", onnx.TensorProto.UINT8), ("arm64", onnx.TensorProto.INT8)])
def test_activations_are_signed_on_arm_and_weights_reduced_without_vnni(bert_tuned, tmp_path, target, zero_point):
    folder = dsee_compress.export(bert_tuned, output=tmp_path / "out", target=target, precision="fp32,int8_static")
    graph = onnx.load(folder / "model_int8_static.onnx").graph
    values = {entry.name: entry for entry in graph.initializer}
    activations = [values[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert activations and {entry.data_type for entry in activations} == {zero_point}
    weights = [
        onnx.numpy_helper.to_array(values[node.input[0]])
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in values and len(values[node.input[0]].dims) == 2
    ]
    largest = max(abs(weight.astype(int)).max() for weight in weights if weight.dtype == "int8")
    assert largest <= 64 if target == "x86-avx2" else largest > 64


def test_a_mobile_export_has_ort_files_and_says_what_a_build_needs(bert_tuned, tmp_path):
    folder = dsee_compress.export(bert_tuned, output=tmp_path / "out", target="mobile")
    assert {path.name for path in folder.glob("*.ort")} == {"model.ort", "model_int8.ort"}
    needed = (folder / ort_format.CONFIG).read_text()
    assert "LayerNormalization" in needed and "DynamicQuantizeLinear" in needed
    for path in folder.glob("*.ort"):
        with session.Session(path) as live:
            assert live.inputs == ["input_ids", "attention_mask", "token_type_ids"]
