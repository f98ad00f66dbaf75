"""What our choice of operators gains on ONNX Runtime's CPU provider (exporting: fusion, normalisation, activation).

    OMP_NUM_THREADS=2 python -m tests.benchmarks.operators

MiniLM, fused, fp32 and int8, as we export it but for outliers, which random tokens do not show, and with one choice
undone each, in turns, one session alive at a time.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from dsee_compress import targets
from dsee_compress.evaluation import latency
from dsee_compress.exporting import files, graph
from dsee_compress.exporting.passes import activation, dynamic, first_token, normalisation
from dsee_compress.interfaces import encoder

from . import finetune

SHAPES = ((1, 32), (1, 128), (8, 32), (8, 128))
OURS, SKIP, EXACT = "ours", "Skip- and EmbedLayerNormalization", "exact GELU"
UNDONE = {"fp32": (SKIP,), "int8": (SKIP, EXACT)}
"""By precision what ours does without; in fp32 its GELU is exact."""


def export(folder: Path) -> dict[str, Path]:
    """The graphs by precision and by what is undone."""
    model = finetune.build("minilm").eval()
    paths: dict[str, Path] = {}
    for way in (OURS, SKIP):
        full, int8 = (folder / f"{name}-{way}.onnx" for name in UNDONE)
        fused = graph.to_onnx(model, "fused", 18, "cuda" if way == SKIP else "cpu")
        first_token.narrow(fused)
        if way == OURS:
            normalisation.sum_before(fused)
        files.save(files.copied(fused), full)
        dynamic.quantise(fused, reduce_range=targets.load(targets.host()).reduce_range)
        if way == OURS:
            exact = paths[f"int8, {EXACT}"] = folder / "exact.onnx"
            files.save(files.copied(fused), exact)
        activation.approximate_gelu(fused)
        files.save(fused, int8)
        paths |= {f"fp32, {way}": full, f"int8, {way}": int8}
    return paths


def main() -> None:
    """Print one line a shape and precision: the median, and how many times as fast ours is as with a choice undone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--samples", type=int, default=120)
    given = parser.parse_args()
    columns = UNDONE["int8"]
    print(
        f"| batch × length | precision | ours, ms | {' | '.join(f'times as fast as with {way}' for way in columns)} |"
    )
    print("| --- |" + " --- |" * (2 + len(columns)))
    with tempfile.TemporaryDirectory() as folder:
        paths = export(Path(folder))
        for batch, length in SHAPES:
            setting = latency.Setting(batch, length, given.threads, "cpu", given.samples, given.rounds, 3, 0)
            timed = latency.measure(paths, encoder.PHASES, encoder.batch(30522, setting), setting)
            samples = {name: phases["call"] for name, phases in timed.items()}
            for name, undone in UNDONE.items():
                ours = samples[f"{name}, {OURS}"]
                cells = [_times(samples[f"{name}, {way}"], ours) if way in undone else "" for way in columns]
                print(f"| {batch} × {length} | {name} | {np.median(ours):.2f} | {' | '.join(cells)} |", flush=True)


def _times(before: latency.Samples, after: latency.Samples) -> str:
    ratio = latency.speedup(before, after)
    return f"{ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"


if __name__ == "__main__":
    main()
