"""Prompts and steps of decoders, dense and pruned, measured side by side."""

import json

import numpy as np
import pytest

import dsee_compress
from dsee_compress.errors import UserError
from dsee_compress.store.structure import Structure

from ..fixtures import decoders
from ..fixtures.decoder_stages import unequal, write_prune

FEW = {"samples": 10, "rounds": 2, "warmup": 1, "sequence_length": 8, "new_tokens": 3}
VALUE = 4 * 2 * decoders.HEAD_SIZE
"""Bytes of a head's key and value of one token."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("decoders")
    whole = Structure(heads=[list(range(decoders.HEADS))] * 3, neurons=[list(range(decoders.NEURONS))] * 3)
    sources = {"dense": write_prune("gpt2", root / "whole", whole), "pruned": write_prune("gpt2", root / "prune")}
    return {name: dsee_compress.export(source, output=root / f"{name}-onnx") for name, source in sources.items()}


@pytest.fixture(scope="module")
def result(folders):
    dsee_compress.benchmark(folders["pruned"], baseline=str(folders["dense"]), batch="1,2", **FEW)
    return json.loads((folders["pruned"] / "benchmark.json").read_text())


def test_every_artifact_has_a_row_of_its_prompt_and_under_decode_of_its_steps(result):
    names = ["baseline_pruned_fp32", "baseline_pruned_int8", "pruned_fp32", "pruned_int8"]
    assert [row["artifact"] for row in result["latency"]] == [row["artifact"] for row in result["grid"]] == names
    for row in result["latency"] + result["grid"]:
        assert row["sequence_length"] == 8 and row["new_tokens"] == 3
        assert row["time_to_first_token_ms"] == row["p50_ms"] < row["cold_start_ms"]
        steps = row["decode"]
        assert np.shape(row["raw_ms"]) == np.shape(steps["raw_ms"]) == (2, 5) and steps["samples"] == 10
        assert row["decode_ms_per_token"] == steps["p50_ms"] == pytest.approx(np.median(steps["raw_ms"]), abs=1e-3)
        assert row["tokens_per_second"] == pytest.approx(row["batch"] / np.mean(steps["raw_ms"]) * 1000, rel=1e-3)
        low, high = steps["speedup"]["ci95"]
        assert low <= steps["speedup"]["value"] <= high
    assert result["latency"][0]["decode"]["speedup"]["value"] == 1.0


def test_memory_is_that_of_the_heads_that_are_left(result):
    remembered = [row["memory_bytes_per_token"] for row in result["latency"]]
    dense, cut = VALUE * decoders.HEADS * decoders.LAYERS, VALUE * sum(unequal("gpt2").head_counts)
    assert remembered == [dense, dense, cut, cut]


def test_prompt_and_steps_fit_into_what_the_model_reads(folders):
    with pytest.raises(UserError, match="sequence_length and new_tokens, in sum 65 is more than the 64 tokens"):
        dsee_compress.benchmark(folders["pruned"], **FEW | {"sequence_length": 62})
