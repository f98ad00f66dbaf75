"""Processes of their own, which import nothing from the folder that a command is started in."""

import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from dsee_compress import child_process
from dsee_compress.evaluation import latency
from dsee_compress.exporting import ort_format

SETTING = latency.Setting(batch=1, sequence_length=8, threads=1, provider="cpu", samples=1, rounds=1, warmup=0, seed=0)
NAMES = ("numpy", "onnxruntime", "onnx", "json", "zlib", "runpy", "site", "sitecustomize", "dsee_compress", "resource")


@pytest.fixture
def model(tmp_path) -> Path:
    """A model with the inputs and outputs of a classifier, in a folder of its own."""
    (tmp_path / "models").mkdir()
    shaped = onnx.helper.make_tensor_value_info
    nodes = [
        onnx.helper.make_node("Cast", ["input_ids"], ["numbers"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("ReduceMean", ["numbers"], ["logits"], keepdims=1),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "classifier",
        [shaped("input_ids", onnx.TensorProto.INT64, ["batch", "length"])],
        [shaped("logits", onnx.TensorProto.FLOAT, None)],
    )
    opset = onnx.helper.make_opsetid("", 18)
    path = tmp_path / "models" / "model.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    return path


@pytest.fixture
def trap(tmp_path, monkeypatch) -> Path:
    """The current folder, with modules in it that say that they were run."""
    here = tmp_path / "here"
    here.mkdir()
    for name in NAMES:
        (here / f"{name}.py").write_text(f"open({str(here / 'RAN')!r}, 'a').write({name!r})")
    monkeypatch.chdir(here)
    return here / "RAN"


@pytest.mark.parametrize("first", [None, "", "."])
def test_nothing_of_the_current_folder_runs_while_a_model_is_measured(model, trap, monkeypatch, first):
    """Not even where this process would import from there, as an interactive Python does."""
    if first is not None:
        monkeypatch.setattr(sys, "path", [*sys.path[:1], first, *sys.path[1:]])
    measured = latency.fresh_process(model, 100, SETTING, starts=1)
    assert measured["peak_rss_mb"] > 10
    assert not trap.exists()


def test_nothing_of_the_current_folder_runs_while_ort_files_are_written(model, trap):
    ort_format.write(model.parent)
    assert model.with_suffix(".ort").is_file()
    assert not trap.exists()


def test_a_process_finds_what_this_one_does(tmp_path, monkeypatch):
    """Folders that were put on sys.path by hand, and by the environment."""
    (tmp_path / "by hand").mkdir()
    (tmp_path / "by hand" / "only_here.py").write_text("print('found')")
    monkeypatch.syspath_prepend(str(tmp_path / "by hand"))
    command = child_process.command("only_here")
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=child_process.surroundings())
    assert done.stdout == "found\n"


def test_a_folder_with_a_colon_is_not_taken_for_two(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(f"{tmp_path}:relative")
    assert "relative" not in child_process.surroundings()["PYTHONPATH"].split(":")
