"""dsee-compress benchmark."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

import dsee_compress
from dsee_compress.configs import BenchmarkConfig

from .options import Overwrite, options_of
from .printing import latency, wrote


@options_of(BenchmarkConfig)
def benchmark(
    folder: Annotated[Path, typer.Argument(help="Output of export.")],
    overwrite: Overwrite = False,
    **options: Any,
) -> None:
    """Measure latency, memory and size in ONNX Runtime, side by side with a baseline."""
    written = dsee_compress.benchmark(folder, overwrite=overwrite, **options)
    result = json.loads((written / "benchmark.json").read_text())
    latency(result["latency"] + result["grid"], result["reference"], result["environment"])
    wrote(written)
