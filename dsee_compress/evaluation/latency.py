"""Latency of ONNX artifacts in ONNX Runtime, side by side (DESIGN section 8).

Artifacts take turns in blocks, A B A B, so that drift of the machine hits all of them, with one session alive
at a time: the spinning threads of idle sessions would slow the one that is measured.
"""

import subprocess
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import child_process
from . import session
from .bootstrap import Interval
from .inputs import Batch, Forward

Samples = NDArray[np.float64]
"""Milliseconds a call, (rounds, samples a round)."""

Contestant = Callable[[], AbstractContextManager[Forward]]
"""Opens what is timed, and frees it at the end of the block."""


@dataclass(frozen=True)
class Setting:
    """How calls are made."""

    batch: int
    sequence_length: int
    threads: int
    provider: str
    samples: int
    rounds: int
    warmup: int
    seed: int
    new_tokens: int = 1
    """Of decoders: steps after a prompt."""


class Phase(NamedTuple):
    """A kind of calls that is timed apart from others."""

    name: str
    under: str | None
    """The key under which a row of benchmark.json has its figures; None for the row itself."""
    opened: Callable[[Path, Setting, Batch], AbstractContextManager[Forward]]
    """Opens an artifact for calls on a batch."""


def measure(
    artifacts: dict[str, Path], phases: Iterable[Phase], batch: Batch, setting: Setting
) -> dict[str, dict[str, Samples]]:
    """Time each artifact, one phase after the other; returns milliseconds a call by artifact and phase."""
    timed: dict[str, dict[str, Samples]] = {name: {} for name in artifacts}
    for phase in phases:
        contestants: dict[str, Contestant]
        contestants = {name: partial(phase.opened, path, setting, batch) for name, path in artifacts.items()}
        for name, samples in in_turns(contestants, batch, setting).items():
            timed[name][phase.name] = samples
    return timed


def in_turns(contestants: dict[str, Contestant], batch: Batch, setting: Setting) -> dict[str, Samples]:
    """Time calls on `batch`, block by block; returns milliseconds a call, (rounds, samples), by contestant.

    Each block opens its contestant, so that no two are open at a time. Of `setting`, rounds, samples and warmup count.
    """
    per_round = -(-setting.samples // setting.rounds)
    taken: dict[str, list[list[float]]] = {name: [] for name in contestants}
    for _ in range(setting.rounds):
        for name, contestant in contestants.items():
            with contestant() as forward:
                for _ in range(setting.warmup):
                    forward(batch)
                block = []
                for _ in range(per_round):
                    started = time.perf_counter_ns()
                    forward(batch)
                    block.append((time.perf_counter_ns() - started) / 1e6)
                taken[name].append(block)
    return {name: np.array(blocks) for name, blocks in taken.items()}


@contextmanager
def onnx_forward(path: Path, setting: Setting) -> Iterator[Forward]:
    """An ONNX artifact as a contestant: its session ends with the block."""
    with session.Session(path, setting.provider, setting.threads) as live:
        yield live.forward


def summarise(samples: Samples, batch: int) -> dict[str, float]:
    """Mean, deviation, percentiles (milliseconds) and sequences a second."""
    flat = samples.flatten()
    p50, p90, p95, p99 = np.percentile(flat, [50, 90, 95, 99])
    return {
        "mean_ms": float(flat.mean()),
        "stdev_ms": float(flat.std(ddof=1)),
        "p50_ms": float(p50),
        "p90_ms": float(p90),
        "p95_ms": float(p95),
        "p99_ms": float(p99),
        "throughput": float(batch / flat.mean() * 1000),
    }


def speedup(baseline: Samples, candidate: Samples, *, resamples: int = 2000, seed: int = 0) -> Interval:
    """Ratio of medians, baseline over candidate, with a 95 % bootstrap interval.

    Rounds are resampled in pairs and calls within them, so that the interval holds the drift between rounds too.
    """
    generator = np.random.default_rng(seed)
    rounds, calls = baseline.shape
    ratios = np.empty(resamples)
    for index in range(resamples):
        picked = generator.integers(0, rounds, (rounds, 1))
        calls_picked = generator.integers(0, calls, (2, rounds, calls))
        ratios[index] = np.median(baseline[picked, calls_picked[0]]) / np.median(candidate[picked, calls_picked[1]])
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Interval(float(np.median(baseline) / np.median(candidate)), float(low), float(high))


def fresh_process(path: Path, vocabulary: int, setting: Setting, starts: int = 3) -> dict[str, float]:
    """What a process costs that loads and runs only this artifact, started anew each time.

    cold_start_ms: from the process's start to its first answer, Python and ONNX Runtime loaded in between, median.
    peak_rss_mb: its peak resident memory in MB (10⁶ bytes), of the last start.
    """
    values = [path, vocabulary, setting.batch, setting.sequence_length, setting.threads, setting.provider]
    command = child_process.command("dsee_compress.evaluation.fresh_process", *values)
    surroundings = child_process.surroundings()
    answered = []
    for _ in range(starts):
        started = time.perf_counter_ns()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=surroundings
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.readline()
            answered.append((time.perf_counter_ns() - started) / 1e6)
            peak, errors = process.stdout.read(), process.stderr.read()
        if process.returncode:
            raise RuntimeError(f"running {path} in a process of its own failed: {errors.strip()}")
    return {"cold_start_ms": float(np.median(answered)), "peak_rss_mb": float(peak)}


def size_mb(path: Path) -> dict[str, float]:
    """Size on disk and compressed as a zip file would be, in MB (10⁶ bytes), external data included."""
    files = [path, *path.parent.glob(f"{path.name}*data")]
    packed = 0
    for file in files:
        packer = zlib.compressobj()
        with file.open("rb") as stream:
            packed += sum(len(packer.compress(chunk)) for chunk in iter(lambda: stream.read(1 << 20), b""))
        packed += len(packer.flush())
    return {"size_mb": sum(file.stat().st_size for file in files) / 1e6, "zipped_mb": packed / 1e6}


def row(
    name: str,
    path: Path,
    phases: Iterable[Phase],
    samples: dict[str, Samples],
    baseline: dict[str, Samples],
    vocabulary: int,
    setting: Setting,
) -> dict[str, Any]:
    """One entry of report.json's `latency`, but for the file's size, which no setting changes."""
    found: dict[str, Any] = {
        "artifact": name,
        "provider": setting.provider,
        "threads": setting.threads,
        "batch": setting.batch,
        "sequence_length": setting.sequence_length,
        **fresh_process(path, vocabulary, setting),
    }
    for phase in phases:
        figures = _figures(samples[phase.name], baseline[phase.name], setting)
        found |= {phase.under: figures} if phase.under else figures
    return found


def _figures(samples: Samples, baseline: Samples, setting: Setting) -> dict[str, Any]:
    return {
        "samples": samples.size,
        **summarise(samples, setting.batch),
        "speedup": speedup(baseline, samples, seed=setting.seed).as_json(),
        "raw_ms": samples.round(4).tolist(),
    }
