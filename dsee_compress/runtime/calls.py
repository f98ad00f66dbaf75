"""The calls of a bundle's model that are timed, phase by phase: the same random tokens in every run."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING or __package__:
    from .opened import Session
else:  # in a bundle
    from opened import Session

Call = Callable[[], object]


class Phase(NamedTuple):
    """A kind of calls."""

    under: str | None
    """Where in a row of latency.json its figures stand; None for the row itself."""
    open: Callable[[Path, dict[str, Any], argparse.Namespace], Call]
    """Loads the model of a folder with the content of its bundle.json, and gives the call."""


def random_batch(bundle: dict[str, Any], batch: int, length: int) -> dict[str, Any]:
    """The model's inputs, int64 arrays (batch, length): the same random tokens in every run.

    The first row fills its length; each other is cut at a random one, every third at its start, not at its end.
    """
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, length + 1, size=batch)
    lengths[0] = length
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    mask[2::3] = mask[2::3, ::-1]
    vocabulary = bundle["vocabulary_size"]
    tokens = generator.integers(min(1000, vocabulary // 2), vocabulary, size=(batch, length))
    arrays = {
        "input_ids": np.where(mask == 1, tokens, bundle["padding"]["id"]).astype(np.int64),
        "attention_mask": mask,
        "token_type_ids": np.zeros((batch, length), np.int64),
    }
    return {name: arrays[name] for name in bundle["inputs"]}


def time_calls(call: Callable[[], object], arguments: argparse.Namespace) -> list[float]:
    """Milliseconds of each call, in their order, after the untimed ones."""
    for _ in range(arguments.warmup):
        call()
    samples = []
    for _ in range(arguments.samples):
        started = time.perf_counter_ns()
        call()
        samples.append((time.perf_counter_ns() - started) / 1e6)
    return samples


def _answers(folder: Path, bundle: dict[str, Any], arguments: argparse.Namespace) -> Call:
    """A call on one batch."""
    session = Session(folder, bundle, arguments.threads)
    inputs = random_batch(bundle, arguments.batch, arguments.sequence_length)
    return lambda: session.run(["logits"], inputs)


class Writing:
    """A session that writes on from a prompt of random tokens, the same in every run and every row, unpadded."""

    def __init__(self, folder: Path, bundle: dict[str, Any], arguments: argparse.Namespace) -> None:
        self._session = Session(folder, bundle, arguments.threads)
        self._longest = arguments.sequence_length + arguments.new_tokens
        generator = np.random.default_rng(0)
        generator.integers(0, arguments.sequence_length, size=1)  # where `benchmark` draws what stands unpadded
        prompt = generator.integers(0, bundle["vocabulary_size"], size=(1, arguments.sequence_length))
        self._prompt = np.repeat(prompt, arguments.batch, axis=0)
        self._nothing = self._session.cache(arguments.batch, 0)
        self._read: dict[str, Any] = {}
        self._memory: dict[str, Any] = {}

    def prompt(self) -> None:
        """Read the prompt from its beginning: its answer is the first new token."""
        self._read = self._memory = self._call(self._prompt, self._nothing)

    def step(self) -> None:
        """Add one token to each row; behind the prompt again after as many as are asked for."""
        if _tokens(self._memory) == self._longest:
            self._memory = self._read
        self._memory = self._call(self._prompt[:, -1:], self._memory)

    def bytes_per_token(self) -> int:
        """What is remembered of a token, of one row."""
        return sum(array.nbytes for array in self._session.cache(1, 1).values())

    def _call(self, tokens: Any, memory: dict[str, Any]) -> dict[str, Any]:
        past, (rows, count) = _tokens(memory), tokens.shape
        positions = np.arange(past, past + count, dtype=np.int64)
        given = {
            "input_ids": tokens,
            "attention_mask": np.ones((rows, past + count), np.int64),
            "position_ids": np.repeat(positions[None], rows, axis=0),
            "logits_to_keep": np.array([1], np.int64),
        }
        _, *present = self._session.run(None, {**given, **memory})
        return dict(zip(memory, present))


def _tokens(memory: dict[str, Any]) -> int:
    return int(next(iter(memory.values())).shape[2])


def _prompts(folder: Path, bundle: dict[str, Any], arguments: argparse.Namespace) -> Call:
    return Writing(folder, bundle, arguments).prompt


def _steps(folder: Path, bundle: dict[str, Any], arguments: argparse.Namespace) -> Call:
    writing = Writing(folder, bundle, arguments)
    writing.prompt()
    return writing.step


PHASES = (Phase(None, _answers),)
PHASES_OF_WRITING = (Phase(None, _prompts), Phase("decode", _steps))
"""Of a model that writes texts, token by token."""


def figures(samples: list[float], batch: int) -> dict[str, Any]:
    """What is told of the calls of a phase, one round of samples."""
    rounded = [[round(sample, 4) for sample in samples]]
    return {"samples": len(samples), **summarise(samples, batch), "raw_ms": rounded}


def summarise(samples: list[float], batch: int) -> dict[str, float]:
    """Mean, deviation, percentiles (milliseconds) and sequences a second."""
    percentiles = np.percentile(samples, [50, 90, 95, 99])
    return {
        "mean_ms": statistics.fmean(samples),
        "stdev_ms": statistics.stdev(samples),
        **{f"p{share}_ms": float(value) for share, value in zip((50, 90, 95, 99), percentiles)},
        "throughput": batch / statistics.fmean(samples) * 1000,
    }
