"""How training slows down when another process has one of the cores.

    python -m tests.benchmarks.busy --rounds 5

MiniLM with DSEE, batches of 32 x 64: OpenMP's threads wait for each other as `dsee-compress` lets them, and as they
would by default. In turns: each way alone, then beside a process that never rests, in fresh processes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from typing import Any

WAYS = {"ours": {"OMP_WAIT_POLICY": "PASSIVE"}, "OpenMP's default": {}}
BATCH, LENGTH, WARMUP = 32, 64, 3
SPIN = [sys.executable, "-c", "while True: pass"]


def seconds(steps: int) -> list[float]:
    """Seconds of each of `steps` training steps in this process."""
    from . import finetune

    training, batch = finetune.Training("minilm", "dsee"), finetune.batch_of(BATCH, LENGTH, 0)
    for _ in range(WARMUP):
        training.step(batch)
    return [training.step(batch) for _ in range(steps)]


def in_fresh_process(way: str, busy: int, steps: int) -> float:
    """Seconds of `steps` steps beside `busy` other processes."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    others = [subprocess.Popen(SPIN) for _ in range(busy)]
    try:
        command = [sys.executable, "-m", __spec__.name, "--child", "--steps", str(steps)]
        output = subprocess.run(command, env=environment | WAYS[way], check=True, capture_output=True, text=True).stdout
    finally:
        for other in others:
            other.kill()
            other.wait()
    return sum(json.loads(output))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--child", action="store_true", help="print the seconds of each step in this process")
    options = parser.parse_args()
    if options.child:
        print(json.dumps(seconds(options.steps)))
        return
    times: dict[tuple[str, int], list[float]] = {(way, busy): [] for way in WAYS for busy in (0, 1)}
    for _ in range(options.rounds):
        for (way, busy), found in times.items():
            found.append(in_fresh_process(way, busy, options.steps))
    best = statistics.median(times["OpenMP's default", 0])
    for (way, busy), found in times.items():
        print(row(way, busy, found, best))


def row(way: str, busy: int, found: list[Any], best: float) -> str:
    """A line of the table: the median, its range, and how many times as long as OpenMP's default takes alone."""
    beside = f"{busy} busy" if busy else "alone"
    return (
        f"{way:18}{beside:8}{statistics.median(found):7.2f} s ({min(found):.2f} to {max(found):.2f}), "
        f"{statistics.median(found) / best:.2f} times as long"
    )


if __name__ == "__main__":
    main()
