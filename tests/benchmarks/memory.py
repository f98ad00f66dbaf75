"""Peak resident memory of every stage on a model of 1.5 GB in fp32, whose weights come in parts.

    OMP_NUM_THREADS=2 python -m tests.benchmarks.memory measure --code now --families bert gpt2
    python -m tests.benchmarks.memory show

Weights are random, and so few rows are read that they count for nothing beside the weights. Each stage runs in a fresh
process, which is looked at every 50 ms together with the processes that it starts: resident memory, of it what is the
process's own (anonymous, RssAnon), and which step of the stage it was in. Peaks are the larger of what was seen so and
of what the kernel counted (ru_maxrss of the stage's process, or of one that it started). Linux alone.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dsee_compress import child_process

from . import results

RESULTS = Path(__file__).with_name("memory.jsonl")
SEED = 0
PART = "400MB"
SHAPES: dict[str, dict[str, int]] = {
    "bert": {
        "vocab_size": 30522,
        "hidden_size": 2048,
        "num_hidden_layers": 9,
        "num_attention_heads": 32,
        "intermediate_size": 4096,
    },
    "gpt2": {"vocab_size": 50257, "n_embd": 2048, "n_layer": 8, "n_head": 32, "n_inner": 4096},
}
"""Wide, with few layers: exporters take their time by the number of nodes."""
TASKS = {"bert": "classification", "gpt2": "generation"}
RUN_STAGE = """import json, sys
import dsee_compress
name, positional, options = json.loads(sys.argv[1])
getattr(dsee_compress, name)(*positional, **options)
"""
STAGES = ("finetune", "export, dense", "prune", "export", "validate", "benchmark", "bundle")
EVERY = 0.05
"""Seconds between two looks."""


def build(family: str, folder: Path) -> None:
    """A pretrained folder with random weights in parts, and a tokenizer of few words."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

    from tests.fixtures import models

    models.write_gpt2(folder) if family == "gpt2" else models.write_model(family, folder)
    (folder / "model.safetensors").unlink()
    torch.manual_seed(SEED)
    if family == "gpt2":
        end = json.loads((folder / "config.json").read_text())["eos_token_id"]
        config = GPT2Config(**SHAPES[family], bos_token_id=end, eos_token_id=end, pad_token_id=end)
        model = GPT2LMHeadModel(config)
    else:
        model = BertForSequenceClassification(BertConfig(**SHAPES[family]))
    model.save_pretrained(folder, max_shard_size=PART)


def write_data(family: str, folder: Path) -> None:
    """A few dozen short rows."""
    from tests.fixtures import models

    models.write_generation_data(folder, 24, 4) if family == "gpt2" else models.write_data(folder, 24, 16)


def calls(family: str, work: Path) -> dict[str, tuple[str, list[str], dict[str, Any]]]:
    """The function of each stage with its arguments."""
    tuned, dense, pruned, exported = (str(work / name) for name in ("finetune", "dense", "prune", "export"))
    training = {"batch_size": 8, "seed": SEED, "device": "cpu"}
    kind = {"task": TASKS[family], "epochs": 1, "max_length": 48, "decomposition": "random"}
    finetune = {"model": str(work / "model"), "data": str(work / "data"), "output": tuned} | kind | training
    whatever = {"max_drop": 1000.0, "max_compression_drop": 1000.0, "batch_size": 8, "max_new_tokens": 2}
    timing = {"baseline": dense, "samples": 10, "rounds": 2, "warmup": 1, "sequence_length": [32], "new_tokens": 4}
    return {
        "finetune": ("finetune", [], finetune),
        "export, dense": ("export", [tuned], {"output": dense, "precision": ["fp32"]}),
        "prune": ("prune", [tuned], {"output": pruned, "retune_epochs": 1, "sequence_length": 48} | training),
        "export": ("export", [pruned], {"output": exported, "precision": ["fp32", "int8"]}),
        "validate": ("validate", [exported], whatever),
        "benchmark": ("benchmark", [exported], timing),
        "bundle": ("bundle", [exported], {"output": str(work / "bundle"), "precision": "fp32"}),
    }


def looked_at(command: list[str], log: Path) -> dict[str, Any]:
    """Run a command, and say how much memory it and what it starts had at most, as a whole and by its steps."""
    seen = []
    with log.open("w") as file:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=file, stderr=file, env=child_process.surroundings())
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            seen.append((log.stat().st_size, *_resident(process.pid)))
            time.sleep(EVERY)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[-1]} failed: {log.read_text()[-2000:]}")
    return {
        "peak_mb": max(usage.ru_maxrss * 1024 / 1e6, *(resident for _, resident, _ in seen)),
        "own_mb": max(own for _, _, own in seen),
        "seconds": time.monotonic() - started,
        "steps": _by_step(seen, log.read_bytes()),
    }


def _resident(pid: int) -> tuple[float, float]:
    """MB of a process and all that it started, and of it what is no file's."""
    import psutil

    total = own = 0.0
    try:
        family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return 0.0, 0.0
    for one in family:
        sizes = _status(one)
        total += sizes.get("VmRSS", 0)
        own += sizes.get("RssAnon", 0)
    return total, own


def _status(pid: int) -> dict[str, float]:
    """The sizes, in MB, that Linux tells of a process; none of one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    entries = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): int(size) * 1024 / 1e6 for name, size, _ in entries}


def _by_step(seen: list[tuple[int, float, float]], log: bytes) -> dict[str, list[float]]:
    """The peaks of resident and of own memory in each step, which a stage names in its log when the step ends."""
    ends, place = [], 0
    for line in log.splitlines(keepends=True):
        place += len(line)
        if line.startswith("✓".encode()):
            ends.append((place, line.decode().strip("✓ \n").partition(" (")[0]))
    found: dict[str, list[float]] = {}
    for written, resident, own in seen:
        name = next((text for end, text in ends if written < end), "end")
        before = found.get(name, [0.0, 0.0])
        found[name] = [max(before[0], round(resident)), max(before[1], round(own))]
    return found


def measure(code: str, family: str, work: Path, stages: list[str]) -> Iterator[dict[str, Any]]:
    """A row a stage; `work` holds the folders of earlier stages where not all are measured."""
    if not (work / "model").exists():
        for what in ("model", "data"):
            making = [sys.executable, "-m", "tests.benchmarks.memory", "make", "--families", family]
            subprocess.run([*making, "--what", what, "--work", str(work.parent)], check=True)
    weights = sum(file.stat().st_size for file in (work / "model").glob("*.safetensors"))
    for stage, (name, positional, options) in calls(family, work).items():
        if stage not in stages:
            continue
        arguments = json.dumps([name, positional, options | {"overwrite": True}])
        found = looked_at([sys.executable, "-c", RUN_STAGE, arguments], work / f"{stage}.log")
        row = {"code": code, "family": family, "stage": stage, "weights_mb": weights / 1e6, **found}
        yield row | {"seed": SEED, "environment": _machine()}


def _machine() -> dict[str, Any]:
    from dsee_compress.evaluation import environment

    return environment.describe() | {"kernel": platform.release()}


def table(rows: list[dict[str, Any]]) -> str:
    """A line a stage and family; of each code the peak, also as a multiple of the weights, and what is no file's."""
    codes = list(dict.fromkeys(row["code"] for row in rows))
    titles = [f"{code}: peak MB, times the weights | {code}: own MB" for code in codes]
    lines = [f"| model | stage | {' | '.join(titles)} |", "| --- | --- |" + " --- | --- |" * len(codes)]
    last = {(row["family"], row["stage"], row["code"]): row for row in rows}
    for family, stage in dict.fromkeys((row["family"], row["stage"]) for row in rows):
        cells = [_cells(last.get((family, stage, code))) for code in codes]
        lines.append(f"| {family} | {stage} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(row: dict[str, Any] | None) -> str:
    if row is None:
        return "not yet run | not yet run"
    return f"{row['peak_mb']:,.0f}, {row['peak_mb'] / row['weights_mb']:.2f} | {row['own_mb']:,.0f}"


def main() -> None:
    """Measure and append to the results, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["measure", "make", "show"])
    parser.add_argument("--code", default="now", help="what the table calls the code that is measured")
    parser.add_argument("--families", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--work", type=Path, default=Path("runs/memory"))
    parser.add_argument("--what", choices=["model", "data"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    for family in given.families if given.command != "show" else ():
        work = given.work.resolve() / family
        if given.command == "make":
            {"model": build, "data": write_data}[given.what](family, work / given.what)
            continue
        for row in measure(given.code, family, work, given.stages):
            with RESULTS.open("a") as file:
                file.write(json.dumps(row) + "\n")
    if given.command != "make":
        print(table(results.read(RESULTS)))


if __name__ == "__main__":
    main()
