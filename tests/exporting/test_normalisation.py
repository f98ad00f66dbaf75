"""Sums and layer normalisations stay apart: in the file, and in what ONNX Runtime makes of it when it loads it."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.transformers.onnx_model import OnnxModel

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


def test_a_sum_that_is_read_beside_its_normalisation_keeps_its_name():
    """As in layers that normalise before their parts, here without a shift."""
    make, kind = onnx.helper.make_node, onnx.TensorProto.FLOAT
    fused = make("SkipLayerNormalization", ["x", "residual", "scale"], ["y", "", "", "sum"], "skip", epsilon=1e-5)
    fused.domain = "com.microsoft"
    told = {name: onnx.helper.make_tensor_value_info(name, kind, [2, 3, 4]) for name in ("x", "residual", "z", "y")}
    scale = onnx.numpy_helper.from_array(np.array([1, 2, 3, 4], np.float32), "scale")
    graph = onnx.helper.make_graph(
        [fused, make("Relu", ["sum"], ["z"])], "g", [told["x"], told["residual"]], [told["y"], told["z"]], [scale]
    )
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = OnnxModel(onnx.helper.make_model(graph, opset_imports=opsets))
    assert normalisation.sum_before(model) == 1
    assert [node.op_type for node in model.model.graph.node].count("Sum") == 1

    x, residual = np.random.default_rng(0).normal(size=(2, 2, 3, 4)).astype(np.float32)
    total = (x + residual).astype(np.float64)
    centred = total - total.mean(-1, keepdims=True)
    expected = centred / np.sqrt(total.var(-1, keepdims=True) + 1e-5) * [1, 2, 3, 4]
    runtime = onnxruntime.InferenceSession(model.model.SerializeToString(), providers=["CPUExecutionProvider"])
    y, z = runtime.run(["y", "z"], {"x": x, "residual": residual})
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_allclose(z, np.maximum(total, 0), atol=1e-6)
