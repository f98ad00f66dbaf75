"""What the table of costs says of a model, beside what the model takes.

    OMP_NUM_THREADS=2 python -m tests.benchmarks.cost measure --models MiniLM BERT-base --precisions fp32 int8
    python -m tests.benchmarks.cost show

Structures are drawn at random from the counts that the table offers, exported as models of that structure are, and
timed in turns with the dense model. A table is of another quarter of an hour than the models are: what is compared is
the share of the dense model's time, and beside it the milliseconds as they are.
"""

import argparse
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PretrainedConfig

from dsee_compress import interfaces, pretrained, targets
from dsee_compress.configs import ExportConfig
from dsee_compress.evaluation import environment
from dsee_compress.evaluation import latency as timing
from dsee_compress.exporting import files
from dsee_compress.stages import cost_table, export
from dsee_compress.store.structure import Structure

from . import finetune, results

RESULTS = Path(__file__).with_name("cost.jsonl")
STRUCTURES = 20
Row = dict[str, Any]


def config_of(name: str) -> PretrainedConfig:
    """MiniLM's shape, or BERT-base's; two labels."""
    config = pretrained.load_config(pretrained.locate(finetune.MINILM), "classification")
    if name == "BERT-base":
        config.update({"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072})
    return config


def measure(name: str, of: str, length: int, threads: int, work: Path) -> Iterator[Row]:
    """A row a structure, the dense model's first."""
    config, interface = config_of(name), interfaces.of("bert")
    exported, target = export.resolve(ExportConfig(precision=of))
    rules = export.rules_of(exported, target)
    setting = timing.Setting(1, length, threads, "cpu", 24, 3, 1, 0)
    started = time.monotonic()
    drawn = cost_table.Drawn.of(config, exported, rules, "cpu")
    table = drawn.milliseconds(setting)
    seconds = time.monotonic() - started

    draw = np.random.default_rng(0)
    layers = config.num_hidden_layers
    counts = [([config.num_attention_heads] * layers, [config.intermediate_size] * layers)]
    for _ in range(STRUCTURES):
        counts.append(tuple(draw.choice(curves[0].counts, layers).tolist() for curves in (table.heads, table.neurons)))
    paths = {}
    for index, (heads, neurons) in enumerate(counts):
        written, _ = cost_table.write(cost_table.random_model(config, heads, neurons), exported, rules, "cpu")
        paths[str(index)] = work / f"{index}.onnx"
        files.save(written, paths[str(index)])
    opened = {index: partial(timing.onnx_forward, path, setting) for index, path in paths.items()}
    taken = timing.in_turns(opened, interface.batch(config.vocab_size, setting), setting)
    ms = {index: float(np.median(samples)) for index, samples in taken.items()}
    predicted = [
        table.of(Structure(heads=[[*range(n)] for n in heads], neurons=[[*range(n)] for n in neurons]))
        for heads, neurons in counts
    ]
    for index, (heads, neurons) in enumerate(counts):
        yield {
            **{"model": name, "precision": of, "batch": 1, "length": length, "threads": threads},
            **{"heads": heads, "neurons": neurons, "predicted_ms": predicted[index], "p50_ms": ms[str(index)]},
            "off": predicted[index] / predicted[0] / (ms[str(index)] / ms["0"]) - 1,
            **{"table_seconds": round(seconds), "target": targets.host(), "environment": environment.describe()},
        }


def show(rows: list[Row]) -> str:
    """A line a model and precision: how far the predicted share of the dense model's time is from the measured one."""
    lines = [
        "| model | table made in | dense | structures, shares of it | apart: median | 95 % of them within | the most |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for key in dict.fromkeys((row["model"], row["precision"], row["length"]) for row in rows):
        dense, *others = [row for row in rows if (row["model"], row["precision"], row["length"]) == key]
        apart = np.abs([row["off"] for row in others])
        shares = [row["p50_ms"] / dense["p50_ms"] for row in others]
        shape = f"{key[0]}, {key[1]}, 1 × {key[2]}"
        spans = f"{len(others)}, {min(shares):.2f} to {max(shares):.2f}"
        figures = f"{np.median(apart):.1%} | {np.quantile(apart, 0.95):.1%} | {apart.max():.1%}"
        lines.append(f"| {shape} | {dense['table_seconds']} s | {dense['p50_ms']:.2f} ms | {spans} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and append to the results, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["measure", "show"])
    parser.add_argument("--models", nargs="+", choices=["MiniLM", "BERT-base"], default=["MiniLM"])
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "int8", "int4"], default=["fp32", "int8"])
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("runs/cost"))
    given = parser.parse_args()
    if given.what == "measure":
        given.work.mkdir(parents=True, exist_ok=True)
        for name in given.models:
            for of in given.precisions:
                for row in measure(name, of, given.length, given.threads, given.work):
                    with RESULTS.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    print(show(results.read(RESULTS)))


if __name__ == "__main__":
    main()
