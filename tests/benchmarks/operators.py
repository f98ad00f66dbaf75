"""What it gains to keep residual sums and layer normalisations apart (exporting/normalisation.py).

    OMP_NUM_THREADS=2 python -m tests.benchmarks.normalisation

MiniLM, fused, fp32 and int8, with SkipLayerNormalization and without, in turns, one session alive at a time.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np

from dsee_compress import architectures, targets
from dsee_compress.evaluation import latency
from dsee_compress.exporting import first_token, fusion, graph, normalisation, precision

from . import finetune

SHAPES = ((1, 32), (1, 128), (8, 32), (8, 128))


def export(folder: Path) -> dict[str, Path]:
    """The graphs by precision and by whether sums and normalisations are apart."""
    model = finetune.build("minilm").eval()
    paths = {f"{name}, {way}": folder / f"{name}-{way}.onnx" for name in ("fp32", "int8") for way in ("one", "apart")}
    graph.to_onnx(model, folder / "plain.onnx", 18)
    fusion.fuse(folder / "plain.onnx", paths["fp32, one"], architectures.of(model))
    first_token.narrow(paths["fp32, one"])
    shutil.copyfile(paths["fp32, one"], paths["fp32, apart"])
    normalisation.sum_before(paths["fp32, apart"])
    for way in ("one", "apart"):
        reduce_range = targets.load(targets.host()).reduce_range
        precision.dynamic_int8(paths[f"fp32, {way}"], paths[f"int8, {way}"], reduce_range=reduce_range)
    return paths


def main() -> None:
    """Print one line a shape: medians, and how many times as fast a call is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--samples", type=int, default=120)
    given = parser.parse_args()
    print("| batch × length | precision | one operator, ms | apart, ms | times as fast (95 %) |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        paths = export(Path(folder))
        for batch, length in SHAPES:
            setting = latency.Setting(batch, length, given.threads, "cpu", given.samples, given.rounds, 3, 0)
            samples = latency.measure(paths, 30522, setting)
            for name in ("fp32", "int8"):
                one, apart = samples[f"{name}, one"], samples[f"{name}, apart"]
                ratio = latency.speedup(one, apart)
                times = f"{ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
                print(f"| {batch} × {length} | {name} | {np.median(one):.2f} | {np.median(apart):.2f} | {times} |")


if __name__ == "__main__":
    main()
