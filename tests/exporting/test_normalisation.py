"""Sums and layer normalisations stay apart: in the file, and in what ONNX Runtime makes of it when it loads it."""

import numpy as np
import onnx
import onnxruntime
import pytest

from dsee_compress.evaluation.inputs import random_batches
from dsee_compress.evaluation.session import Session
from dsee_compress.exporting.passes import normalisation

from ..fixtures import models
from ..fixtures.graphs import changed


@pytest.fixture(params=["fused", "portable"])
def path(request, family, graphs):
    """A graph as it was before."""
    return getattr(graphs, request.param)(family, "unequal")


def loaded(path, target) -> list[onnx.NodeProto]:
    """The nodes that a session runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return [*onnx.load(target).graph.node]


def logits(path) -> np.ndarray:
    with Session(path) as live:
        return np.concatenate([live.forward(batch) for batch in random_batches([(4, 9), (3, 30)], 200, live.inputs)])


def test_sums_stay_apart_and_the_function_the_same(path, tmp_path):
    before = logits(path)
    assert "SkipLayerNormalization" in [node.op_type for node in loaded(path, tmp_path / "before.onnx")]
    apart = tmp_path / "apart.onnx"
    assert changed(path, apart, normalisation.sum_before) >= 2 * models.LAYERS
    assert np.abs(logits(apart) - before).max() <= 1e-5
    run = [node.op_type for node in loaded(apart, tmp_path / "after.onnx")]
    assert "SkipLayerNormalization" not in run and run.count("Sum") >= 2 * models.LAYERS
    onnx.checker.check_model(onnx.load(apart))
