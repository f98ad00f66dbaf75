"""Weights beyond what protobuf holds: the same model in two files."""

import builtins
import io
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

import dsee_compress
from dsee_compress.evaluation import inputs, session
from dsee_compress.exporting import files, metadata
from dsee_compress.exporting.layouts import LAYOUTS

from ..fixtures import decoder_stages, models

ARTIFACTS = [path.name for path in LAYOUTS["optimum"].graphs.values()]
EVERY = list(LAYOUTS["optimum"].graphs)


@pytest.fixture(scope="module", params=["fused", "portable"])
def style(request) -> str:
    return request.param


def logits(path) -> np.ndarray:
    with session.Session(path) as live:
        (batch,) = inputs.random_batches([(3, 20)], models.VOCABULARY, live.inputs)
        return live.forward(batch)


def test_every_precision_is_the_same_in_two_files(bert_tuned, style, tmp_path, monkeypatch):
    options = {"precision": EVERY, "graph": style}
    whole = dsee_compress.export(bert_tuned, output=tmp_path / "whole", **options)
    monkeypatch.setattr(files, "LARGEST", 2000)
    apart = dsee_compress.export(bert_tuned, output=tmp_path / "apart", **options)
    found = {path.name for path in apart.iterdir() if ".onnx" in path.name}
    assert found == {name for file in ARTIFACTS for name in (file, f"{file}_data")}
    for file in ARTIFACTS:
        assert not (whole / f"{file}_data").exists()
        assert np.array_equal(logits(whole / file), logits(apart / file)), file
        assert metadata.read(apart / file)["precision"] == metadata.read(whole / file)["precision"]
        weights = sum(len(entry.raw_data) for entry in onnx.load(whole / file).graph.initializer)
        assert (apart / f"{file}_data").stat().st_size < 1.2 * weights + 4096 * 100  # nothing is left of earlier ones
    bundle = dsee_compress.bundle(apart, output=tmp_path / "bundle", precision="fp32")
    shutil.rmtree(apart)
    assert logits(bundle / "model.onnx").shape == (3, 2)


def test_what_was_in_two_files_leaves_nothing_behind(bert_tuned, tmp_path, monkeypatch):
    made = dsee_compress.export(bert_tuned, output=tmp_path / "made", precision="fp32")
    path = made / "model.onnx"
    expected = logits(path)
    with monkeypatch.context() as patched:
        patched.setattr(files, "LARGEST", 2000)
        files.save(files.load(path), path)
    assert (made / "model.onnx_data").exists()
    files.save(files.load(path), path)
    assert sorted(entry.name for entry in made.glob("model*")) == ["model.onnx"]
    assert np.array_equal(logits(path), expected)


@pytest.fixture
def opened(monkeypatch) -> Counter[tuple[str, str]]:
    """How often each file of a model is opened by Python to be read or written; the quantiser's own is `quantiser`."""
    found: Counter[tuple[str, str]] = Counter()
    real = io.open

    def counted(file, mode="r", *rest, **options):
        if str(file).endswith((".onnx", "_data")):
            own = "ort.quant." in str(file)
            found["quantiser" if own else Path(file).name, "written" if "w" in mode else "read"] += 1
        return real(file, mode, *rest, **options)

    for module in (builtins, io):
        monkeypatch.setattr(module, "open", counted)
    return found


FROM_FP32 = {("model_fp16.onnx", "written"): 1, ("model_int8.onnx", "written"): 1, ("model_int4.onnx", "written"): 1}
"""Each is made in memory."""


def once() -> dict[tuple[str, str], int]:
    """The fp32 graph is written once, and read once for each of the others; all are written once."""
    return {("model.onnx", "written"): 1, ("model.onnx", "read"): len(FROM_FP32), **FROM_FP32}


@pytest.mark.parametrize("style", ["fused", "portable"])
def test_an_encoders_graph_is_read_once_and_written_once_an_artifact(bert_tuned, style, tmp_path, opened):
    dsee_compress.export(bert_tuned, output=tmp_path / "out", precision=EVERY, graph=style)
    # Three have int8 weights, for which the quantiser infers shapes by files; what infers them reads and writes in C++.
    by_quantiser = {("quantiser", "written"): 3, ("quantiser", "read"): 3}
    # The fp32 graph is read for static int8, too, and for the names of its inputs, without its weights.
    static = {("model_int8_static.onnx", "written"): 1, ("model.onnx", "read"): 5}
    assert opened == once() | static | by_quantiser


def test_a_decoders_graph_is_read_once_and_written_once_an_artifact(tmp_path, opened):
    source = decoder_stages.write_prune("gpt2", tmp_path / "prune")
    dsee_compress.export(source, output=tmp_path / "out", precision=["fp32", "fp16", "int8", "int4"])
    assert opened == once() | {("quantiser", "written"): 2, ("quantiser", "read"): 2}
