"""dsee-compress export."""

from pathlib import Path
from typing import Annotated, Any

import typer

import dsee_compress
from dsee_compress.configs import ExportConfig
from dsee_compress.store.manifest import ExportManifest

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
    manifest = ExportManifest.read(written)
    metrics = manifest.metrics
    artifacts = [path for path in sorted(written.rglob("*")) if path.suffix in (".onnx", ".ort")]
    trimmed = metrics.vocabulary
    partly_fp32 = {"fp16": metrics.fp16, "int8_static": metrics.int8_static}
    kept = {name: made.fp32_nodes for name, made in partly_fp32.items() if made and made.fp32_nodes is not None}
    facts(
        "exported",
        {
            **{path.relative_to(written).as_posix(): f"{path.stat().st_size / 1e6:.1f} MB" for path in artifacts},
            "target, graph, opset": "{target}, {graph}, {opset}".format_map(manifest.config),
            **{f"fp32 within {name}": ", ".join(nodes) or "nothing" for name, nodes in kept.items()},
            **({"vocabulary": f"{trimmed.after:,} of {trimmed.before:,} tokens"} if trimmed else {}),
            "attention, GELU nodes": f"{metrics.fp32.attention or 'unfused'}, {metrics.fp32.gelu}",
            "PyTorch against ONNX Runtime": f"{metrics.export_max_abs:.1e}",
        },
    )
    wrote(written)
