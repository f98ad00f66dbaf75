"""Gate "cost": predicted against measured figures."""

import numpy as np
import pytest

from dsee_compress.errors import GateError
from dsee_compress.stages import cost_gate
from dsee_compress.store.stage_metrics import OrderMetrics

CALLED = {"provider": "cpu", "threads": 2, "batch": 1, "sequence_length": 128}
ORDER = OrderMetrics(
    order="latency", unit="ms", budget=5.0, dense=10.0, predicted=4.9, target="x86-avx2", precision="int8", **CALLED
)


def row(artifact, ms, **called):
    """Of forty calls that took about so many milliseconds."""
    raw = ms * (1 + np.random.default_rng(len(artifact)).uniform(-0.01, 0.01, (4, 10)))
    return {"artifact": artifact, "raw_ms": raw.tolist(), "p50_ms": float(np.median(raw)), **CALLED, **called}


def test_the_same_share_of_the_dense_models_time_holds_on_a_slower_day():
    rows = [row("dense_fp32", 90), row("dense_int8", 30), row("pruned_int8", 15), row("pruned_int8", 99, batch=8)]
    told = cost_gate.require(ORDER, rows, {})
    assert told["measured"]["value"] == pytest.approx(5.0, rel=0.02)
    assert told["off"] == pytest.approx(5.0 / 4.9 - 1, abs=0.02)
    low, high = told["measured"]["ci95"]
    assert low < told["measured"]["value"] < high


@pytest.mark.parametrize("pruned, said", [(18, "takes 6 ms"), (11, "takes 3.6")])
def test_what_does_not_add_up_is_caught(pruned, said):
    with pytest.raises(GateError, match=f"gate 'cost' failed: pruned_int8 {said}.*the table said 4.9"):
        cost_gate.require(ORDER, [row("dense_int8", 30), row("pruned_int8", pruned)], {})


def test_without_the_dense_model_milliseconds_are_compared_as_they_are():
    assert cost_gate.require(ORDER, [row("pruned_int8", 5.0)], {})["measured"]["value"] == pytest.approx(5.0, rel=0.02)
    with pytest.raises(GateError, match="takes 15 ms"):
        cost_gate.require(ORDER, [row("pruned_int8", 15)], {})


def test_an_interval_that_reaches_the_limit_is_no_proof_against_the_table():
    noisy = row("pruned_int8", 5.0)
    noisy["raw_ms"] = [[4.8] * 10, [6.9] * 10, [4.8] * 10, [6.9] * 10]
    assert cost_gate.require(ORDER, [row("dense_int8", 10), noisy], {})["off"] > cost_gate.LIMIT


def test_what_was_not_measured_is_not_judged():
    assert cost_gate.require(ORDER, [row("pruned_int8", 50, threads=1), row("pruned_fp32", 50)], {}) is None


def test_megabytes_are_those_of_the_file():
    order = OrderMetrics(order="size", unit="MB", budget=12, dense=20, predicted=11.9, target="cuda", precision="fp32")
    assert cost_gate.require(order, [], {"pruned_fp32": 12.0})["off"] == pytest.approx(12 / 11.9 - 1)
    with pytest.raises(GateError, match="takes 15 MB"):
        cost_gate.require(order, [], {"pruned_fp32": 15.0})
