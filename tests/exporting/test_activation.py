"""GELU in each of the operators that stand for it, exact and approximate, against float64."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from onnxruntime.transformers.onnx_model import OnnxModel

from dsee_compress.exporting import files, precision
from dsee_compress.exporting.passes.activation import approximate_gelu

from .test_normalisation import loaded

X = np.linspace(-8, 8, 1600, dtype=np.float32).reshape(1, 4, 400)
BIAS = np.linspace(-1, 1, 400, dtype=np.float32)


def gelu_of(operator: str, domain: str) -> OnnxModel:
    biased = operator == "BiasGelu"
    node = helper.make_node(operator, ["x", "bias"] if biased else ["x"], ["y"], name="gelu", domain=domain)
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, X.shape)],
        [onnx.numpy_helper.from_array(BIAS, "bias")] if biased else [],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return OnnxModel(helper.make_model(graph, opset_imports=opsets, ir_version=9))


def off(model: OnnxModel, exact: torch.Tensor) -> float:
    """How far the graph is from `exact`, at most."""
    (found,) = onnxruntime.InferenceSession(model.model.SerializeToString()).run(None, {"x": X})
    return np.abs(found - exact.numpy()).max()


@pytest.mark.parametrize(
    ("operator", "domain"), [("Gelu", "com.microsoft"), ("BiasGelu", "com.microsoft"), ("Gelu", "")]
)
def test_the_approximation_is_off_by_half_a_thousandth_at_most(operator, domain):
    model = gelu_of(operator, domain)
    x = torch.tensor(X, dtype=torch.float64) + (torch.tensor(BIAS) if operator == "BiasGelu" else 0)
    exact = torch.nn.functional.gelu(x)
    assert off(model, exact) < 1e-5
    approximate_gelu(model)
    assert 1e-4 < off(model, exact) < 5e-4
    assert off(model, torch.nn.functional.gelu(x, approximate="tanh")) < 1e-5


def test_an_integer_product_takes_the_bias(tmp_path):
    """As ONNX Runtime runs the graph, once it is in int8."""
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "weight"], ["product"], name="product"),
        node("BiasGelu", ["product", "bias"], ["y"], name="gelu", domain="com.microsoft"),
    ]
    shapes = {"x": [1, 4, 400], "y": [1, 4, 400]}
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    weight = np.random.default_rng(0).normal(size=(400, 400)).astype(np.float32)
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in (("weight", weight), ("bias", BIAS))]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(nodes, "graph", [x], [y], tensors)
    model = OnnxModel(helper.make_model(graph, opset_imports=opsets, ir_version=9))
    model.model.graph.output[0].name, model.nodes()[1].output[0] = "logits", "logits"
    rules = precision.Rules(reduce_range=True, signed_activations=False, block_size=32)
    precision.lower(model, precision.DECODER["int8"], rules, list)
    files.save(model, tmp_path / "int8.onnx")
    run = {node.op_type: node for node in loaded(tmp_path / "int8.onnx", tmp_path / "run.onnx")}
    assert run.keys() == {"DynamicQuantizeMatMul", "FastGelu"}
    assert "bias" in run["DynamicQuantizeMatMul"].input and "bias" not in run["FastGelu"].input
