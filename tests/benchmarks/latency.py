"""Latency of our exports against Optimum's and PyTorch, in turns: MiniLM, and BERT-base's shape with random weights.

    OMP_NUM_THREADS=2 python -m tests.benchmarks.latency measure
    python -m tests.benchmarks.latency show

A block is a model, a batch and a length on one kind of machine; all contestants take their turns in it, one alive at a
time, on full rows. Resumable: a block that is in latency.jsonl is not measured again, and what is in --work is not made
again.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from dsee_compress import targets
from dsee_compress.costs.flops import Flops
from dsee_compress.evaluation import environment
from dsee_compress.evaluation import latency as timing
from dsee_compress.evaluation.bootstrap import Interval
from dsee_compress.models import config_of
from dsee_compress.tasks import Reads

from . import contestants, finetune, results
from .contestants import OPTIMIZED, PLAIN, Contestant

RESULTS = Path(__file__).with_name("latency.jsonl")
MODELS: dict[str, Callable[[Path], str]] = {
    "minilm": lambda _: finetune.MINILM,
    "bert-base": contestants.bert_base,
}
"""From the folder where a model may be made to what `finetune` takes."""
DENSE, SMALLEST = "ours, fp32", "ours, int8, 40 %"
PRUNED = ("ours, fp32, 25 %", "ours, fp32, 40 %")
REFERENCES = (PLAIN, OPTIMIZED, DENSE)
WARMUP = 2
CALLS_A_ROUND = (5, 40)
"""At least, and at most."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Block:
    """What is measured together."""

    model: str
    batch: int
    length: int
    target: str
    """What the machine is (`--target`)."""

    @property
    def title(self) -> str:
        return f"{self.model}, {self.target}"

    def __str__(self) -> str:
        return f"{self.title}, {self.batch} × {self.length}"


def measure(blocks: list[Block], threads: int, rounds: int, seconds: float, work: Path) -> None:
    """Append the rows of each block to the results, after an estimate of the time that all take."""
    if not blocks:
        return
    fields = {}
    for model in dict.fromkeys(block.model for block in blocks):
        fields[model] = contestants.make(MODELS[model](work / model / "pretrained"), work / model)
    plans, total = {}, 0.0
    for block in blocks:
        plans[block], expected = plan(block, fields[block.model], threads, rounds, seconds)
        total += expected
        print(f"{block}: {plans[block].samples} calls of each in {rounds} rounds, about {expected:.0f} s", flush=True)
    print(f"about {total / 60:.0f} minutes in all", flush=True)
    for block, setting in plans.items():
        started = time.perf_counter()
        rows = measure_block(block, fields[block.model], setting)
        with RESULTS.open("a") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
        print(f"{block}: measured in {time.perf_counter() - started:.0f} s", flush=True)


def plan(
    block: Block, field: dict[str, Contestant], threads: int, rounds: int, seconds: float
) -> tuple[timing.Setting, float]:
    """How many calls fit into `seconds`, and the seconds of the whole block, from one trial call of each contestant."""
    trial = timing.Setting(block.batch, block.length, threads, "cpu", samples=1, rounds=1, warmup=1, seed=0)
    contestants.require_same_logits(field, _batch(block, field), trial)
    started = time.perf_counter()
    trials = _in_turns(block, field, trial)
    call_of_each = sum(float(samples.sum()) for samples in trials.values()) / 1000
    opening = max(time.perf_counter() - started - 2 * call_of_each, 0.0)
    least, most = CALLS_A_ROUND
    calls = min(max(int(seconds / rounds / call_of_each), least), most)
    expected = rounds * (opening + (WARMUP + calls) * call_of_each)
    return replace(trial, samples=calls * rounds, rounds=rounds, warmup=WARMUP), expected


def measure_block(block: Block, field: dict[str, Contestant], setting: timing.Setting) -> list[Row]:
    """One row a contestant: times, ratios to the references, FLOPs, size, and the machine."""
    samples = _in_turns(block, field, setting)
    machine = environment.describe()
    return [
        {
            "model": block.model,
            "batch": block.batch,
            "length": block.length,
            "target": block.target,
            "contestant": name,
            "threads": setting.threads,
            **{key: timing.summarise(samples[name], block.batch)[key] for key in ("p50_ms", "p95_ms")},
            "times_as_fast": {other: timing.speedup(samples[other], samples[name]).as_json() for other in REFERENCES},
            "flops": _flops(contestant, block.length, "all tokens"),
            "flops_computed": _flops(contestant, block.length, contestant.reads),
            "size_mb": contestant.file.stat().st_size / 1e6,
            "rounds": setting.rounds,
            "samples": setting.samples,
            "environment": machine,
        }
        for name, contestant in field.items()
    ]


def _in_turns(block: Block, field: dict[str, Contestant], setting: timing.Setting) -> dict[str, timing.Samples]:
    runners = {name: partial(contestant.open, setting) for name, contestant in field.items()}
    return timing.in_turns(runners, _batch(block, field), setting)


def _batch(block: Block, field: dict[str, Contestant]) -> Any:
    vocabulary = config_of(field[DENSE].file.parent).vocab_size
    return contestants.full_batch(block.batch, block.length, vocabulary)


def _flops(contestant: Contestant, length: int, reads: Reads) -> int:
    return Flops(config_of(contestant.file.parent), length, reads).of(contestant.structure)


def show(rows: list[Row]) -> str:
    """One table a model and kind of machine, and the claims with their figures."""
    if not rows:
        return "Not yet run."
    return "\n\n".join([*(table(rows, title) for title in titles(rows)), claims(rows)])


def titles(rows: list[Row]) -> list[str]:
    """Of the tables, in the order of their first rows."""
    return list(dict.fromkeys(block_of(row).title for row in rows))


def table(rows: list[Row], title: str) -> str:
    """One line a contestant, one column a batch and length: median and times as fast as Optimum's plain export."""
    mine = [row for row in rows if block_of(row).title == title]
    shapes = sorted({(row["batch"], row["length"]) for row in mine})
    found = {(row["contestant"], row["batch"], row["length"]): row for row in mine}
    lines = [
        f"| {title} | size, MB | " + " | ".join(f"{batch} × {length}" for batch, length in shapes) + " |",
        "| --- | --- |" + " --- |" * len(shapes),
    ]
    for name in dict.fromkeys(row["contestant"] for row in mine):
        cells = [_cell(found[name, *shape]) if (name, *shape) in found else "not yet run" for shape in shapes]
        size = next(row["size_mb"] for row in mine if row["contestant"] == name)
        lines.append(f"| {name} | {size:.1f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def claims(rows: list[Row]) -> str:
    """One line a figure: whether it and its whole interval are on the right side of what is claimed."""
    lines = ["| claim | model, target, batch × length | measured (95 %) | holds |", "| --- | --- | --- | --- |"]
    for row in rows:
        if row["contestant"] in PRUNED and row["batch"] == 8:
            lines.append(_realised(row, _beside(rows, row, DENSE)))
    for row in rows:
        if row["contestant"] == DENSE:
            lines.append(_claim(f"{DENSE}: not slower than {OPTIMIZED}", row, _ratio(row, OPTIMIZED), 1.0))
    for row in rows:
        if row["contestant"] == SMALLEST:
            lines.append(_claim(f"{SMALLEST}: 3 times as fast as {PLAIN}", row, _ratio(row, PLAIN), 3.0))
    return "\n".join(lines)


def _realised(row: Row, dense: Row) -> str:
    """The measured ratio as a share of the FLOPs' ratio."""
    counted = dense["flops_computed"] / row["flops_computed"]
    ratio = _ratio(row, DENSE)
    share = Interval(ratio.value / counted, ratio.low / counted, ratio.high / counted)
    text = f"{row['contestant']}: 0.95 of the ratio of FLOPs to {DENSE}"
    return _claim(text, row, share, 0.95, f"{ratio.value:.2f} of {counted:.2f}: ")


def _claim(text: str, row: Row, measured: Interval, bound: float, before: str = "") -> str:
    holds = "yes" if measured.low >= bound else "no" if measured.high < bound else "not told apart"
    return f"| {text} | {block_of(row)} | {before}{_interval(measured)} | {holds} |"


def _cell(row: Row) -> str:
    return f"{row['p50_ms']:.1f}, {_interval(_ratio(row, PLAIN))}"


def _ratio(row: Row, reference: str) -> Interval:
    found = row["times_as_fast"][reference]
    return Interval(found["value"], *found["ci95"])


def _interval(interval: Interval) -> str:
    return f"{interval.value:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def _beside(rows: list[Row], row: Row, contestant: str) -> Row:
    """The row of another contestant in the same block."""
    same = [other for other in rows if block_of(other) == block_of(row)]
    return next(other for other in same if other["contestant"] == contestant)


def block_of(row: Row) -> Block:
    return Block(row["model"], row["batch"], row["length"], row["target"])


def measured_rows() -> list[Row]:
    return results.read(RESULTS)


def main(arguments: list[str] | None = None) -> None:
    """Measure what is not yet in the results, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("show")
    options = commands.add_parser("measure")
    options.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    options.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    options.add_argument("--lengths", type=int, nargs="+", default=[32, 128])
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--rounds", type=int, default=6)
    options.add_argument("--seconds", type=float, default=60, help="of timed calls a block, where enough calls fit")
    options.add_argument("--work", type=Path, default=Path("runs/latency"))
    given = parser.parse_args(arguments)
    if given.command == "measure":
        here = targets.host()
        wanted = [Block(m, b, n, here) for m in given.models for b in given.batches for n in given.lengths]
        done = {block_of(row) for row in measured_rows()}
        pending = [block for block in wanted if block not in done]
        measure(pending, given.threads, given.rounds, given.seconds, given.work)
    print(show(measured_rows()))


if __name__ == "__main__":
    main()
