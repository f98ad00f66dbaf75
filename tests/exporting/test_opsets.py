"""A graph says an older operator set than it was written in only where it is of that one."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from onnxruntime.transformers.onnx_model import OnnxModel

from dsee_compress.errors import GateError
from dsee_compress.exporting import opsets


def model(*nodes: onnx.NodeProto) -> OnnxModel:
    """From x to y, in opset 23."""
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 3]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    return OnnxModel(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)]))


def test_operators_that_were_there_do_the_same():
    lowered = model(helper.make_node("Softmax", ["x"], ["y"], axis=-1))
    opsets.lower(lowered, 17)
    assert [entry.version for entry in lowered.model.opset_import] == [17]
    onnx.checker.check_model(lowered.model, full_check=True)
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    runtime = onnxruntime.InferenceSession(lowered.model.SerializeToString(), providers=["CPUExecutionProvider"])
    powers = np.exp(x.astype(np.float64))
    np.testing.assert_allclose(runtime.run(None, {"x": x})[0], powers / powers.sum(-1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize(
    "opset, node, sentence",
    [
        (18, ("Gelu", ["x"]), "Gelu n stayed as it was, and opset 18 has none; export with opset 23"),
        (18, ("Cast", ["x"], {"to": 1, "saturate": 1}), "Cast n has saturate, which opset 18 has not"),
        (17, ("ReduceMean", ["x", "axes"]), "ReduceMean n has the input axes, which opset 17 has not"),
    ],
    ids=["operator", "attribute", "input"],
)
def test_what_the_older_set_has_not_is_told(opset, node, sentence):
    kind, inputs, *attributes = node
    told = model(helper.make_node(kind, inputs, ["y"], name="n", **dict(*attributes)))
    with pytest.raises(GateError, match=sentence):
        opsets.lower(told, opset)
    assert [entry.version for entry in told.model.opset_import] == [23]
    opsets.lower(told, 23)
