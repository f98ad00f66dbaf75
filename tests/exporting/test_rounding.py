"""int8 weights that fit examples: against GPTQ's elimination written out, and on a real graph."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

import dsee_compress
from dsee_compress.exporting import files
from dsee_compress.exporting.passes import dynamic, one_query, rounding

from ..fixtures import models


def correlated(generator, tokens: int, channels: int) -> np.ndarray:
    """Inputs of fewer directions than channels, and a little of their own in each."""
    mixed = generator.normal(size=(tokens, max(channels // 4, 1))) @ generator.normal(
        size=(max(channels // 4, 1), channels)
    )
    return mixed + 0.1 * generator.normal(size=(tokens, channels))


def one_by_one(weight: np.ndarray, scale: np.ndarray, levels: int, moments: np.ndarray) -> np.ndarray:
    """Optimal brain quantisation, row by row: the inverse of the moments of what is left is eliminated each time."""
    moments = moments + np.eye(len(moments)) * 0.01 * np.diag(moments).mean()
    left, weight = list(np.argsort(-np.diag(moments), kind="stable")), weight.astype(np.float64)
    found = np.zeros(weight.shape)
    while left:
        inverse = np.linalg.inv(moments[np.ix_(left, left)])
        row, *left = left
        found[row] = np.clip(np.rint(weight[row] / scale), -levels, levels)
        error = (weight[row] - found[row] * scale) / inverse[0, 0]
        weight[left] -= np.outer(inverse[1:, 0], error)
    return found


@settings(max_examples=20, deadline=None)
@given(
    channels=st.integers(1, 90), out=st.integers(1, 7), levels=st.sampled_from([64, 127]), seed=st.integers(0, 2**16)
)
def test_it_is_the_elimination_written_out(channels, out, levels, seed):
    generator = np.random.default_rng(seed)
    inputs = correlated(generator, 300, channels)
    weight = generator.normal(size=(channels, out)).astype(np.float32)
    scale = np.abs(weight).max(axis=0) / levels
    found = rounding.fitted(weight, scale, levels, inputs.T @ inputs)
    assert found.dtype == np.int8 and np.abs(found.astype(int)).max() <= levels
    expected = one_by_one(weight, scale, levels, inputs.T @ inputs)
    assert (found != expected).mean() < 0.02, "but for ties, which float64 breaks either way"


def test_products_of_correlated_inputs_come_out_nearer_than_with_nearest_levels():
    generator = np.random.default_rng(0)
    inputs = correlated(generator, 2000, 96)
    weight = generator.normal(size=(96, 32)).astype(np.float32)
    scale = np.abs(weight).max(axis=0) / 64

    def error(rounded: np.ndarray) -> float:
        return np.square(inputs @ (rounded * scale - weight)).mean()

    fitted = rounding.fitted(weight, scale, 64, inputs.T @ inputs)
    assert error(fitted) < 0.3 * error(np.rint(weight / scale))


def test_inputs_that_are_not_correlated_get_the_nearest_levels():
    weight = np.random.default_rng(0).normal(size=(40, 9)).astype(np.float32)
    scale = np.abs(weight).max(axis=0) / 64
    for moments in (np.diag(np.linspace(1, 40, 40)), np.zeros((40, 40))):
        assert np.array_equal(rounding.fitted(weight, scale, 64, moments), np.rint(weight / scale))


def test_single_weights_that_are_pruned_stay_out():
    generator = np.random.default_rng(0)
    inputs = correlated(generator, 500, 80)
    weight = (generator.normal(size=(80, 12)) * generator.integers(0, 2, size=(80, 12))).astype(np.float32)
    found = rounding.fitted(weight, np.abs(weight).max(axis=0) / 64, 64, inputs.T @ inputs)
    assert not found[weight == 0].any() and found[weight != 0].any()


def test_groups_hold_all_tensors_once_and_no_more_moments_than_allowed():
    """BERT-large's in three groups, BERT-base's in one."""
    channels = {f"{place} {layer}": width for layer in range(24) for place, width in (("in", 1024), ("out", 4096))}
    groups = [*rounding._together(channels)]
    assert [name for group in groups for name in group] == [*channels]
    sizes = [sum(8 * channels[name] ** 2 for name in group) for group in groups]
    assert len(groups) == 3 and max(sizes) <= rounding.AT_ONCE
    assert [*rounding._together({"wide": 20_000, "a": 3})] == [["wide"], ["a"]]
    layer = {"in": 768, "query": 768, "output": 768, "out": 3072}
    base = {f"{place} {index}": width for index in range(12) for place, width in layer.items()}
    assert [*rounding._together(base)] == [[*base]]


@pytest.mark.parametrize("graph", ["fused", "portable"])
def test_every_weight_of_a_graph_is_rounded_in_its_scale(bert_tuned, tmp_path, monkeypatch, graph):
    folder = dsee_compress.export(bert_tuned, output=tmp_path / "out", precision="fp32", graph=graph)
    source, nearest, fitted = (files.load(folder / "model.onnx") for _ in range(3))
    for model in (nearest, fitted):
        dynamic.quantise(model, reduce_range=True)
    rows = {"input_ids": np.random.default_rng(0).integers(5, models.VOCABULARY, (16, 12))}
    batches = [rows | {"attention_mask": np.ones((16, 12), int), "token_type_ids": np.zeros((16, 12), int)}]
    rounding.fit(fitted, source, batches)
    before, after = ({entry.name: entry for entry in model.model.graph.initializer} for model in (nearest, fitted))
    assert before.keys() == after.keys()
    graph_of = source.model.graph
    kept = one_query.by_head(graph_of)
    matrices = {entry.name for entry in graph_of.initializer if len(entry.dims) == 2}
    weights = {
        node.input[1] for node in graph_of.node if node.op_type in ("MatMul", "Attention") and node.name not in kept
    } & matrices
    assert len(weights) > 8
    again = files.load(folder / "model.onnx")
    dynamic.quantise(again, reduce_range=True)
    monkeypatch.setattr(rounding, "AT_ONCE", 1)
    rounding.fit(again, source, batches)
    assert again.model == fitted.model, "one by one gives the same bits"
    changed = {name for name in before if before[name].SerializeToString() != after[name].SerializeToString()}
    assert changed == {f"{name}_quantized" for name in weights}
    for name in changed:
        levels = numpy_helper.to_array(after[name]).astype(int)
        assert np.abs(levels).max() <= 64 and np.abs(levels - numpy_helper.to_array(before[name])).max() <= 8
