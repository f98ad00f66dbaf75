"""Latency of decoders: of a prompt, and of each token after it. Measured in turns, as `latency` measures encoders.

A row has the figures of a prompt, whose answer is the first new token, where an encoder has those of a call, and under
`decode` the same figures of a step: one call that adds one token to each sequence of the batch.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import latency
from .generator import OnnxGenerator
from .inputs import Batch, Forward, Logits, random_prompts
from .latency import Contestant, Samples, Setting


def measure(artifacts: dict[str, Path], vocabulary: int, setting: Setting) -> dict[str, dict[str, Samples]]:
    """Time each artifact; returns milliseconds of `prompt` and `step`, (rounds, samples) each, by artifact.

    A prompt is as long as the setting's sequences and has no padding. Steps begin behind it, and again behind it after
    the setting's number of new tokens.
    """
    batch = random_prompts([(1, setting.sequence_length)], vocabulary, seed=setting.seed)[0]
    batch = {name: np.repeat(array, setting.batch, axis=0) for name, array in batch.items()}
    phases: dict[str, Callable[[Path, Setting], AbstractContextManager[Forward]]]
    phases = {"prompt": _prompts, "step": partial(_steps, batch=batch)}
    timed = {}
    for phase, opened in phases.items():
        contestants: dict[str, Contestant] = {name: partial(opened, path, setting) for name, path in artifacts.items()}
        timed[phase] = latency.in_turns(contestants, batch, setting)
    return {name: {phase: samples[name] for phase, samples in timed.items()} for name in artifacts}


def row(
    name: str,
    path: Path,
    samples: dict[str, Samples],
    baseline: dict[str, Samples],
    vocabulary: int,
    setting: Setting,
) -> dict[str, Any]:
    """One entry of benchmark.json's `latency`, but for the file's size, which no setting changes."""
    steps = samples["step"]
    decode = {
        "samples": steps.size,
        **latency.summarise(steps, setting.batch),
        "speedup": latency.speedup(baseline["step"], steps, seed=setting.seed).as_json(),
        "raw_ms": steps.round(4).tolist(),
    }
    prompt = latency.row(name, path, samples["prompt"], baseline["prompt"], vocabulary, setting)
    with OnnxGenerator(path, setting.provider, setting.threads) as live:
        remembered = live.bytes_per_token
    return prompt | {
        "new_tokens": setting.new_tokens,
        "time_to_first_token_ms": prompt["p50_ms"],
        "decode_ms_per_token": decode["p50_ms"],
        "tokens_per_second": decode["throughput"],
        "memory_bytes_per_token": remembered,
        "decode": decode,
    }


@contextmanager
def _prompts(path: Path, setting: Setting) -> Iterator[Forward]:
    """A contestant that reads the batch from its beginning."""
    with OnnxGenerator(path, setting.provider, setting.threads) as live:

        def forward(batch: Batch) -> Logits:
            answer = live.forward(torch.as_tensor(batch["input_ids"]), logits_to_keep=1)
            logits: Logits = answer.logits.numpy(force=True)
            return logits

        yield forward


@contextmanager
def _steps(path: Path, setting: Setting, batch: Batch) -> Iterator[Forward]:
    """A contestant whose calls each add the batch's last token to what it remembers of it."""
    with OnnxGenerator(path, setting.provider, setting.threads) as live:
        tokens = torch.as_tensor(batch["input_ids"])
        prompt = memory = live.forward(tokens).past_key_values
        last = tokens[:, -1:].contiguous()

        def forward(_: Batch) -> Logits:
            nonlocal memory
            if memory.get_seq_length() == setting.sequence_length + setting.new_tokens:
                memory = prompt
            answer = live.forward(last, past_key_values=memory)
            memory = answer.past_key_values
            logits: Logits = answer.logits.numpy(force=True)
            return logits

        yield forward
