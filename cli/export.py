"""dsee-compress export."""

from pathlib import Path
from typing import Annotated, Any

import typer

import dsee_compress
from dsee_compress import checkpoint
from dsee_compress.configs import ExportConfig

from .options import Output, Overwrite, options_of
from .printing import facts, wrote


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
    static, trimmed = metrics.get("int8_static", {}), metrics.get("vocabulary")
    facts(
        "exported",
        {
            **{path.name: f"{path.stat().st_size / 1e6:.1f} MB" for path in artifacts},
            "target, graph, opset": "{target}, {graph}, {opset}".format_map(manifest.config),
            **({"fp32 within int8_static": ", ".join(static["fp32_nodes"]) or "nothing"} if static else {}),
            **({"vocabulary": "{after:,} of {before:,} tokens".format_map(trimmed)} if trimmed else {}),
            "attention, GELU nodes": f"{metrics['fp32']['attention'] or 'unfused'}, {metrics['fp32']['gelu']}",
            "PyTorch against ONNX Runtime": f"{metrics['export_max_abs']:.1e}",
        },
    )
    wrote(written)
