"""What a neuron count that is no multiple of the vector width costs in ONNX Runtime: what --round-to should be.

    python -m tests.benchmarks.rounding --threads 2

MiniLM with all layers cut to the same number of neurons, fused, fp32 and int8, in turns, one session alive at a time.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from dsee_compress import targets
from dsee_compress.evaluation import latency
from dsee_compress.exporting import files, graph, precision
from dsee_compress.interfaces import encoder
from dsee_compress.pruning import selection, surgery
from dsee_compress.store.structure import Structure

from . import finetune

COUNTS = (1152, 1148, 1150, 1151, 1153, 1156, 1160, 1168, 1184)
"""1,152 is a multiple of 128; its neighbours, of 1, 2, 4, 8, 16 and 32."""


def export(neurons: int, folder: Path) -> dict[str, Path]:
    """The fp32 and int8 graphs of MiniLM with `neurons` in every layer."""
    model = finetune.build("minilm").eval()
    whole = selection.whole(model)
    surgery.remove(model, Structure(heads=whole.heads, neurons=[list(range(neurons)) for _ in whole.neurons]))
    fp32, int8 = (folder / f"{neurons}-{name}.onnx" for name in ("fp32", "int8"))
    files.save(graph.to_onnx(model, "fused", 18, "cpu"), fp32)
    lower = files.load(fp32)
    rules = precision.Rules(targets.load(targets.host()).reduce_range, False, 32)
    precision.lower(lower, precision.ENCODER["int8"], rules, list)
    files.save(lower, int8)
    return {f"fp32 {neurons}": fp32, f"int8 {neurons}": int8}


def main() -> None:
    """Print one line a count: medians, and how many times as long a call takes as with 1,152 neurons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--samples", type=int, default=300)
    given = parser.parse_args()
    setting = latency.Setting(given.batch, given.length, given.threads, "cpu", given.samples, given.rounds, 3, 0)
    with tempfile.TemporaryDirectory() as folder:
        artifacts: dict[str, Path] = {}
        for count in COUNTS:
            artifacts |= export(count, Path(folder))
        timed = latency.measure(artifacts, encoder.PHASES, encoder.batch(30522, setting), setting)
        samples = {name: phases["call"] for name, phases in timed.items()}
    print(f"batch {given.batch}, {given.length} tokens, {given.threads} threads")
    print("| neurons | fp32, ms | times 1,152's (95 %) | int8, ms | times 1,152's (95 %) |")
    print("| --- | --- | --- | --- | --- |")
    for count in COUNTS:
        cells = [f"{count}"]
        for name in ("fp32", "int8"):
            mine, reference = (samples[f"{name} {number}"] for number in (count, COUNTS[0]))
            ratio = latency.speedup(mine, reference)
            cells += [f"{np.median(mine):.2f}", f"{ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
