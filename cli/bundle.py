"""dsee-compress bundle."""

from pathlib import Path
from typing import Annotated, Any

import typer

import dsee_compress
from dsee_compress.configs import BundleConfig
from dsee_compress.store.manifest import BundleManifest

from .options import Output, Overwrite, options_of
from .printing import facts, wrote


@options_of(BundleConfig)
def bundle(
    folder: Annotated[Path, typer.Argument(help="Output of export.")],
    output: Output,
    overwrite: Overwrite = False,
    **options: Any,
) -> None:
    """Write what a device needs to answer and to measure, without torch, as a folder and a zip file beside it."""
    written = dsee_compress.bundle(folder, output=output, overwrite=overwrite, **options)
    archive = written.with_name(f"{written.name}.zip")
    facts(
        "bundled",
        {
            "artifact": BundleManifest.read(written).metrics.artifact,
            **{path.name: f"{path.stat().st_size / 1e6:.1f} MB" for path in (written / "model.onnx", archive)},
            "needs": "numpy, onnxruntime, tokenizers",
        },
    )
    wrote(written)
