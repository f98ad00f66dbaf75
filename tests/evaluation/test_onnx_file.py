"""ONNX files weight by weight: the same bytes and the same messages as protobuf's own."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dsee_compress.evaluation import onnx_file


@pytest.fixture
def model() -> onnx.ModelProto:
    """A graph with large and small weights, an empty one, a subgraph, a function, and every kind of metadata."""
    drawn = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(drawn.normal(size=(40, 30)).astype(np.float32), "w"),
        numpy_helper.from_array(np.arange(3), "shape"),
        numpy_helper.from_array(np.zeros((0, 4), np.float32), "nothing"),
        helper.make_tensor("typed", TensorProto.FLOAT, [2], [1.5, -2.0]),
        numpy_helper.from_array(drawn.integers(-9, 9, (17, 300), dtype=np.int8), "int8"),
    ]
    branch = helper.make_graph([helper.make_node("Neg", ["y"], ["z"])], "branch", [], [_floats("z")], weights[1:2])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], name="product"),
        helper.make_node("If", ["c"], ["out"], then_branch=branch, else_branch=branch),
        helper.make_node("Double", ["y"], ["twice"], domain="own"),
    ]
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    graph = helper.make_graph(nodes, "graph", [_floats("x"), condition], [_floats("out")], weights, "said")
    graph.value_info.append(_floats("y"))
    graph.metadata_props.add(key="of", value="the graph")
    graph.quantization_annotation.add(tensor_name="w")
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    double = helper.make_function("own", "Double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], opsets)
    made = helper.make_model(graph, functions=[double], opset_imports=opsets, producer_name="test", ir_version=10)
    helper.set_model_props(made, {"a": "b" * 200})
    return made


def _floats(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def test_the_bytes_are_those_of_protobuf(model, tmp_path):
    onnx_file.write(model, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == model.SerializeToString()


@pytest.mark.parametrize("empty", [onnx.ModelProto(), helper.make_model(helper.make_graph([], "none", [], []))])
def test_a_graph_of_nothing(empty, tmp_path):
    onnx_file.write(empty, tmp_path / "model.onnx")
    assert onnx_file.read(tmp_path / "model.onnx") == onnx.load(tmp_path / "model.onnx")


def test_what_is_read_is_what_protobuf_reads(model, tmp_path):
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    assert onnx_file.read(tmp_path / "model.onnx") == model


def test_weights_of_another_file_come_along(model, tmp_path):
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="model.data", size_threshold=0)
    assert onnx_file.read(tmp_path / "model.onnx") == onnx.load(tmp_path / "model.onnx")


def test_a_graph_without_the_numbers_of_its_weights(model, tmp_path):
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    for entry in model.graph.initializer:
        entry.ClearField("raw_data")
    assert onnx_file.read(tmp_path / "model.onnx", weights=False) == model


def test_a_field_that_no_version_knows_stays(model, tmp_path):
    """A later onnx writes more, of any wire type."""
    later = b"\xa8\x06\x2a" + b"\xb1\x06" + bytes(8) + b"\xbd\x06" + bytes(4) + b"\xc2\x06\x03abc"
    content = model.SerializeToString() + later
    (tmp_path / "model.onnx").write_bytes(content)
    assert onnx_file.read(tmp_path / "model.onnx").SerializeToString() == content


@pytest.mark.parametrize("cut", [1, 100, 2000])
def test_a_file_that_is_cut(model, tmp_path, cut):
    from google.protobuf.message import DecodeError

    (tmp_path / "model.onnx").write_bytes(model.SerializeToString()[:-cut])
    with pytest.raises(DecodeError):
        onnx_file.read(tmp_path / "model.onnx")
