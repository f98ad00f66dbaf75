"""Graphs drawn from two others, against those that the exporter writes of models of the same structure."""

import numpy as np
import onnx
import pytest

from dsee_compress import interfaces
from dsee_compress.configs import ExportConfig
from dsee_compress.evaluation import session
from dsee_compress.exporting import files, precision, skeleton
from dsee_compress.exporting.precision import Rules
from dsee_compress.exporting.skeleton import Counts, Skeleton, UnlikeGraphsError
from dsee_compress.stages import cost_table

from ..fixtures import models

RULES = Rules(reduce_range=True, signed_activations=False, block_size=32)
BOTH = skeleton.two(models.HEAD_SIZE, RULES.block_size)
COUNTS = Counts(heads=3, neurons=28, last_heads=2, last_neurons=17)


def drawn(family, name):
    exported = ExportConfig(precision=[name], graph="fused", opset=18)
    return cost_table.Drawn.of(models.build(family).config, exported, RULES, "cpu")


def written(family, name, counts):
    """What is exported of a model with `counts`."""
    model = models.build(family)
    made = cost_table.random_model(model.config, *counts.by_layer(models.LAYERS))
    interface = interfaces.of(model.config.model_type)
    found, _ = interface.to_onnx(made, "fused", 18, "cpu")
    if name != "fp32":
        precision.lower(found, interface.PASSES[name], RULES, list)
    return found


def described(model):
    """Nodes with their whole numbers, and weights with their shapes, or their numbers where these are whole ones."""
    nodes = [
        (node.op_type, [*node.input], {entry.name: (entry.i, [*entry.ints]) for entry in node.attribute})
        for node in model.graph.node
    ]
    weights = {
        entry.name: onnx.numpy_helper.to_array(entry).tolist()
        if entry.data_type == onnx.TensorProto.INT64 and entry.raw_data
        else [*entry.dims]
        for entry in model.graph.initializer
    }
    return nodes, weights


@pytest.mark.parametrize("name", ["fp32", "fp16", "int8", "int4"])
def test_a_drawn_graph_is_the_exported_one(name):
    content, weights = drawn("bert", name).skeleton.graph(COUNTS)
    found, expected = onnx.ModelProto.FromString(content), written("bert", name, COUNTS)
    assert described(found) == described(expected.model)
    types = {entry.name: entry.data_type for entry in expected.model.graph.initializer}
    assert all(types[name] == next(e for e in found.graph.initializer if e.name == name).data_type for name in weights)


@pytest.mark.parametrize("name", ["fp32", "int8"])
def test_a_drawn_graph_runs_and_weighs_what_its_file_does(tmp_path, name):
    own = drawn("bert", name).skeleton
    content, weights = own.graph(COUNTS)
    live = session.of_model(content, "a graph", weights=weights)
    ids = np.ones((3, 11), np.int64)
    given = {entry.name: ids if entry.name != "token_type_ids" else 0 * ids for entry in live.get_inputs()}
    (logits,) = live.run(["logits"], given)
    assert logits.shape == (3, 2) and np.isfinite(logits).all()
    files.save(written("bert", name, COUNTS), tmp_path / "model.onnx")
    assert own.size(COUNTS) == pytest.approx((tmp_path / "model.onnx").stat().st_size / 1e6, rel=0.02)


def test_graphs_of_other_nodes_are_refused():
    one, two = (written("bert", name, COUNTS) for name in ("fp32", "int8"))
    with pytest.raises(UnlikeGraphsError, match="do not have the same nodes"):
        Skeleton(one, two, BOTH)


def test_a_number_that_grows_with_nothing_is_refused():
    one, two = (written("bert", "fp32", counts) for counts in (BOTH[0], COUNTS))
    with pytest.raises(UnlikeGraphsError, match="grows with nothing"):
        Skeleton(one, two, BOTH)
