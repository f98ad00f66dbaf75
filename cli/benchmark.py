"""dsee-compress benchmark."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

import dsee_compress
from dsee_compress.configs import BenchmarkConfig

from .options import Overwrite, options_of
from .printing import listing, wrote


@options_of(BenchmarkConfig)
def benchmark(
    folder: Annotated[Path, typer.Argument(help="Output of export.")],
    overwrite: Overwrite = False,
    **options: Any,
) -> None:
    """Measure latency, memory and size in ONNX Runtime, side by side with a baseline."""
    written = dsee_compress.benchmark(folder, overwrite=overwrite, **options)
    result = json.loads((written / "benchmark.json").read_text())
    rows = []
    for row in result["latency"]:
        low, high = row["speedup"]["ci95"]
        rows.append(
            [
                row["artifact"],
                *(f"{row[name]:.2f}" for name in ("p50_ms", "p95_ms", "p99_ms")),
                f"{row['speedup']['value']:.2f} ({low:.2f} to {high:.2f})",
                f"{row['peak_rss_mb']:.0f}",
                f"{row['size_mb']:.1f}",
            ]
        )
    first = result["latency"][0]
    title = f"batch {first['batch']}, {first['sequence_length']} tokens, {first['threads']} threads"
    listing(title, ["", "p50 ms", "p95", "p99", f"times {result['reference']}", "RSS MB", "MB"], rows)
    wrote(written)
