"""dsee-compress import-peft."""

from pathlib import Path
from typing import Annotated, Any

import typer

import dsee_compress
from dsee_compress.configs import ImportPeftConfig
from dsee_compress.store.manifest import FinetuneManifest

from .options import Output, Overwrite, options_of
from .printing import facts, measured, wrote


@options_of(ImportPeftConfig)
def import_peft(
    folder: Annotated[Path, typer.Argument(help="LoRA adapter that PEFT saved: adapter_config.json and safetensors.")],
    output: Output,
    overwrite: Overwrite = False,
    **options: Any,
) -> None:
    """Make an adapter folder, as finetune's, from a LoRA adapter that PEFT saved."""
    written = dsee_compress.import_peft(folder, output=output, overwrite=overwrite, **options)
    manifest = FinetuneManifest.read(written)
    facts(
        "imported",
        {
            "parameters of the update": f"{manifest.metrics.trainable_parameters:,}",
            "labels": ", ".join(manifest.task.labels),
            **measured(manifest.metrics.validation),
        },
    )
    wrote(written)
