"""Channels far larger than the others: what their factors are, that fp32 keeps every bit, and what int8 gains."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

import dsee_compress
from dsee_compress.evaluation import session
from dsee_compress.evaluation.inputs import random_batches
from dsee_compress.exporting import files, precision, probe
from dsee_compress.exporting.passes import dynamic, outliers, static
from dsee_compress.store.manifest import Manifest

from ..fixtures import models

RULES = precision.Rules(reduce_range=True, signed_activations=False, block_size=32)


def int8_product(inputs: np.ndarray, weight: np.ndarray, levels: int) -> np.ndarray:
    """As ONNX Runtime's dynamic int8 multiplies, in whole numbers."""
    low, high = min(inputs.min(), 0), max(inputs.max(), 0)
    scale, column = (high - low) / 255, np.abs(weight).max(axis=0) / levels
    zero_point = round(-low / scale)
    left = np.clip(np.rint(inputs / scale) + zero_point, 0, 255).astype(np.int64) - zero_point
    return (left @ np.rint(weight / column).astype(np.int64)) * scale * column


@settings(max_examples=15, deadline=None)
@given(
    large=st.lists(st.integers(0, 39), min_size=1, max_size=3, unique=True),
    times=st.floats(20, 200),
    levels=st.sampled_from([64, 127]),
    seed=st.integers(0, 2**16),
)
def test_large_channels_get_a_power_of_two_by_which_int8_gains(large, times, levels, seed):
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(200, 40)).astype(np.float32)
    inputs[:5, large] *= times
    weight = generator.normal(size=(40, 16)).astype(np.float32)
    factors, gain = outliers.factors_of(inputs, weight, levels)
    assert np.array_equal(factors, np.exp2(np.rint(np.log2(factors)))) and factors.max() == 1
    if gain:
        assert (factors[large] < 1).any()

    def noise(factors: np.ndarray) -> float:
        found = int8_product(inputs * factors, weight / factors[:, None], levels)
        return np.square(found - inputs.astype(np.float64) @ weight).mean()

    assert gain == pytest.approx(10 * np.log10(noise(np.ones(40, np.float32)) / noise(factors)), abs=0.05)


def test_one_channel_of_a_few_tokens_takes_most_of_the_range():
    generator = np.random.default_rng(0)
    inputs, weight = generator.normal(size=(200, 64)).astype(np.float32), generator.normal(size=(64, 64))
    assert outliers.factors_of(inputs, weight.astype(np.float32), 127)[1] < 1
    inputs[::25, 7] = 60
    factors, gain = outliers.factors_of(inputs, weight.astype(np.float32), 127)
    assert gain > 4 and factors[7] <= 1 / 4 and factors[7] == factors.min()


def test_channels_without_a_value_are_no_measure():
    inputs = np.zeros((20, 40), np.float32)
    weight = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    with np.errstate(all="raise"):
        assert np.array_equal(outliers.factors_of(inputs, weight, 64)[0], np.ones(40))
        inputs[:, 3] = 7
        factors, gain = outliers.factors_of(inputs, weight, 64)
        assert np.isfinite(factors).all() and factors.min() > 0 and np.isfinite(gain)


@pytest.fixture(scope="module", params=["fused", "portable"])
def exported(bert_tuned, tmp_path_factory, request) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "out"
    return dsee_compress.export(bert_tuned, output=folder, precision="fp32", graph=request.param) / "model.onnx"


@pytest.fixture
def with_outlier(exported, tmp_path) -> tuple[Path, str]:
    """The model with one neuron's huge activation and a row that makes up for it, and the product that reads it."""
    model = onnx.load(exported)
    weights = {entry.name: entry for entry in model.graph.initializer}
    width = {name: tuple(entry.dims) for name, entry in weights.items()}
    products = [node for node in probe.products(model.graph) if len(width[node.input[1]]) == 2]
    neurons = max(max(width[node.input[1]]) for node in products)
    first = [node for node in products if width[node.input[1]][1] == neurons][1]
    second = [node for node in products if width[node.input[1]][0] == neurons][1]
    into, out = (numpy_helper.to_array(weights[node.input[1]]).copy() for node in (first, second))
    into[:, 0] *= 3000
    out[0] /= 3000
    out[1:] *= 8  # so that much of the logits is the others'
    for node, weight in ((first, into), (second, out)):
        weights[node.input[1]].CopyFrom(numpy_helper.from_array(weight, node.input[1]))
    path = tmp_path / "outlier.onnx"
    onnx.save(model, path)
    return path, second.name


def batches_for(path: Path) -> list[dict]:
    with session.Session(path) as live:
        return random_batches([(8, 12)] * 8, models.VOCABULARY, live.inputs)


def test_fp32_keeps_every_bit_and_int8_its_signal(with_outlier, tmp_path):
    path, product = with_outlier
    batches = batches_for(path)
    in_size, plain, ours = (files.load(path) for _ in range(3))
    wanted = probe.logits(in_size, batches)
    assert outliers.equalise(in_size, batches, 64) == [product]
    assert np.array_equal(probe.logits(in_size, batches), wanted)
    dynamic.quantise(plain, reduce_range=True)
    figures = precision.lower(ours, precision.ENCODER["int8"], RULES, lambda: batches)
    assert figures["equalised"] == [product]
    found, better = (probe.decibels(wanted, probe.logits(model, batches)) for model in (plain, ours))
    assert better > found + 10
    assert [*tmp_path.iterdir()] == [path]


def test_a_product_with_an_outlier_stays_in_fp32_unless_it_is_brought_to_size(with_outlier):
    path, product = with_outlier
    batches = batches_for(path)
    figures = static.calibrate(files.load(path), batches, reduce_range=True, signed=False)
    assert figures["fp32_nodes"][0] == product and len(figures["fp32_nodes"]) <= 3
    assert figures["signal_to_noise_db"] >= static.LEAST_SIGNAL_TO_NOISE
    figures = precision.lower(files.load(path), precision.ENCODER["int8_static"], RULES, lambda: batches)
    assert product in figures["equalised"] and product not in figures["fp32_nodes"]
    assert figures["signal_to_noise_db"] >= static.LEAST_SIGNAL_TO_NOISE


def test_what_is_added_to_a_product_is_seen_in_the_logits(exported):
    (batch,) = batches_for(exported)[:1]
    model = files.load(exported)
    wanted = probe.logits(model, [batch])
    output = probe.products(model.model.graph)[0].output[0]
    with probe.disturbed(model, [output]) as forward:
        assert np.array_equal(forward(batch, {}), wanted)
        shape = next(probe.tensors(model, [output], [batch]))[output].shape
        error = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        assert not np.allclose(forward(batch, {output: error}), wanted)
        assert np.allclose(forward(batch, {output: 0 * error}), wanted)


def test_without_its_data_int8_says_that_it_was_rounded_blindly(bert_tuned, tmp_path, monkeypatch, capsys):
    from dsee_compress.errors import UserError
    from dsee_compress.stages import export

    def gone(*_) -> None:
        raise UserError("there is no data folder /gone")

    monkeypatch.setattr(export, "_training_batches", gone)
    folder = dsee_compress.export(bert_tuned, output=tmp_path / "out")
    assert Manifest.read(folder).metrics.int8.equalised is None
    assert "int8 is rounded without a look at examples: there is no data folder /gone" in capsys.readouterr().err
    with pytest.raises(UserError, match="/gone"):
        dsee_compress.export(bert_tuned, output=tmp_path / "static", precision="int8_static")
