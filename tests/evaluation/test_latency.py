import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from dsee_compress.errors import UserError
from dsee_compress.evaluation import environment, latency
from dsee_compress.evaluation.bootstrap import Interval
from dsee_compress.evaluation.session import Session
from dsee_compress.interfaces import encoder

SETTING = latency.Setting(
    batch=2, sequence_length=16, threads=2, provider="cpu", samples=12, rounds=3, warmup=1, seed=0
)


def measure(artifacts: dict[str, Path]) -> dict[str, latency.Samples]:
    timed = latency.measure(artifacts, encoder.PHASES, encoder.batch(200, SETTING), SETTING)
    return {name: samples["call"] for name, samples in timed.items()}


def test_samples_come_in_rounds_of_every_artifact(bert_exported):
    samples = measure({"a": bert_exported / "model.onnx", "b": bert_exported / "model_int8.onnx"})
    assert {name: values.shape for name, values in samples.items()} == {"a": (3, 4), "b": (3, 4)}
    assert all((values > 0).all() for values in samples.values())


def test_only_one_session_is_alive_at_a_time(bert_exported, monkeypatch):
    """Idle sessions' threads spin on the cores that the measured one needs."""
    alive, most = [], []
    enter, leave = Session.__enter__, Session.__exit__
    monkeypatch.setattr(
        Session, "__enter__", lambda self: (alive.append(self), most.append(len(alive)), enter(self))[2]
    )
    monkeypatch.setattr(Session, "__exit__", lambda self, *error: (alive.remove(self), leave(self, *error))[1])
    measure({"a": bert_exported / "model.onnx", "b": bert_exported / "model_int8.onnx"})
    assert most == [1] * 6


def test_what_is_no_onnx_file_takes_its_turn_like_one_that_is():
    events = []

    @contextmanager
    def open_as(name):
        events.append(f"open {name}")
        yield lambda batch: events.append(f"{name}: {batch['input_ids'].shape}")
        events.append(f"close {name}")

    batch = {"input_ids": np.ones((2, 16), np.int64)}
    samples = latency.in_turns({"a": lambda: open_as("a"), "b": lambda: open_as("b")}, batch, SETTING)
    calls = SETTING.warmup + SETTING.samples // SETTING.rounds
    turn = [[f"open {name}", *[f"{name}: (2, 16)"] * calls, f"close {name}"] for name in ("a", "b")]
    assert events == (turn[0] + turn[1]) * SETTING.rounds
    assert {name: values.shape for name, values in samples.items()} == {"a": (3, 4), "b": (3, 4)}


def test_a_session_ends_its_threads_with_its_block(bert_exported):
    process = psutil.Process()
    before = process.num_threads()
    with Session(bert_exported / "model.onnx", threads=4) as session:
        during = process.num_threads()
    assert during >= before + 3
    assert process.num_threads() == before
    assert session.inputs


def test_summary_is_numpys():
    samples = np.random.default_rng(0).gamma(9.0, size=(4, 25))
    summary = latency.summarise(samples, batch=8)
    flat = samples.flatten()
    assert summary["mean_ms"] == pytest.approx(flat.mean())
    assert summary["stdev_ms"] == pytest.approx(np.std(flat, ddof=1))
    assert summary["p99_ms"] == pytest.approx(np.quantile(flat, 0.99))
    assert summary["throughput"] == pytest.approx(8 / (flat.mean() / 1000))


def test_speedup_covers_the_true_ratio_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    covered = 0
    for seed in range(100):
        slow, fast = (generator.normal(mean, 1.0, (5, 20)) for mean in (20.0, 10.0))
        interval = latency.speedup(slow, fast, resamples=300, seed=seed)
        covered += interval.low <= 2.0 <= interval.high
    assert covered >= 88


def test_drift_between_rounds_widens_the_interval_but_cancels_in_the_ratio():
    """Drift that hits both alike cancels; what one alone drifts by from round to round is in the interval."""
    noise = np.random.default_rng(0).normal(0, 0.05, (2, 6, 20))
    slow, fast = 10 + noise[0], 5 + noise[1]
    shared, own = np.linspace(1, 2, 6)[:, None], np.linspace(0.9, 1.1, 6)[:, None]
    steady, drifting = latency.speedup(slow, fast), latency.speedup(shared * slow, shared * fast)
    assert drifting.value == pytest.approx(2.0, rel=0.02)
    assert width(steady) < width(drifting) < 0.05
    apart = latency.speedup(own * slow, fast)
    assert apart.low < 2.0 < apart.high and width(apart) > 10 * width(steady)


def width(interval: Interval) -> float:
    return interval.high - interval.low


def test_peak_memory_is_of_a_fresh_process_not_of_this_one(bert_exported):
    """ru_maxrss would carry this process's size over into the child."""
    ballast = np.ones(80_000_000)  # 640 MB
    small = latency.fresh_process(bert_exported / "model.onnx", 200, SETTING)
    assert psutil.Process(os.getpid()).memory_info().rss / 1e6 > 640
    assert small["peak_rss_mb"] < 300
    assert ballast[0]


@pytest.mark.timing
def test_a_cold_start_is_longer_than_a_call_and_than_importing_onnx_runtime(bert_exported):
    path = bert_exported / "model.onnx"
    cold = latency.fresh_process(path, 200, SETTING)["cold_start_ms"]
    imports = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import numpy, onnxruntime"], check=True)
        imports.append((time.perf_counter() - started) * 1e3)
    assert cold > min(imports) > np.median(measure({"a": path})["a"])


def test_size_counts_external_data_too(tmp_path):
    (tmp_path / "model.onnx").write_bytes(os.urandom(1000))
    (tmp_path / "model.onnx_data").write_bytes(bytes(9000))
    sizes = latency.size_mb(tmp_path / "model.onnx")
    assert sizes["size_mb"] == pytest.approx(0.01)
    assert 0.001 < sizes["zipped_mb"] < 0.002


def test_a_provider_that_is_not_there_is_an_error(bert_exported):
    with pytest.raises(UserError, match="provider cuda was asked for, and this ONNX Runtime has only"):
        Session(bert_exported / "model.onnx", "cuda")


def test_environment_names_the_machine():
    described = environment.describe()
    assert described["physical_cores"] >= 1 and described["cpu"]
    assert {"torch", "transformers", "onnxruntime", "dsee-compress"} <= described["libraries"].keys()
