"""dsee-compress export."""

from pathlib import Path
from typing import Annotated, Any

import typer

import dsee_compress
from dsee_compress import checkpoint
from dsee_compress.configs import ExportConfig, Precision

from .options import Output, Overwrite, options_of
from .printing import facts, wrote

PARTLY_FP32: list[Precision] = ["fp16", "int8_static"]
"""What keeps in fp32 what it would ruin."""


@options_of(ExportConfig)
def export(
    folder: Annotated[Path, typer.Argument(help="Output of prune, or of finetune for the dense model.")],
    output: Output,
    overwrite: Overwrite = False,
    **options: Any,
) -> None:
    """Write ONNX models, proven equal to the PyTorch model, with tokenizer and labels."""
    written = dsee_compress.export(folder, output=output, overwrite=overwrite, **options)
    manifest = checkpoint.read(written)
    metrics = manifest.metrics
    artifacts = [path for path in sorted(written.iterdir()) if path.suffix in (".onnx", ".ort")]
    trimmed = metrics.get("vocabulary")
    # Manifests of before fp16 looked at examples have no such nodes of it.
    kept = {name: metrics[name]["fp32_nodes"] for name in PARTLY_FP32 if "fp32_nodes" in metrics.get(name, {})}
    facts(
        "exported",
        {
            **{path.name: f"{path.stat().st_size / 1e6:.1f} MB" for path in artifacts},
            "target, graph, opset": "{target}, {graph}, {opset}".format_map(manifest.config),
            **{f"fp32 within {name}": ", ".join(nodes) or "nothing" for name, nodes in kept.items()},
            **({"vocabulary": "{after:,} of {before:,} tokens".format_map(trimmed)} if trimmed else {}),
            "attention, GELU nodes": f"{metrics['fp32']['attention'] or 'unfused'}, {metrics['fp32']['gelu']}",
            "PyTorch against ONNX Runtime": f"{metrics['export_max_abs']:.1e}",
        },
    )
    wrote(written)
