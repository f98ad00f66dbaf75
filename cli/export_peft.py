"""dsee-compress export-peft."""

from pathlib import Path
from typing import Annotated

import typer

import dsee_compress

from .options import Output, Overwrite
from .printing import wrote


def export_peft(
    folder: Annotated[Path, typer.Argument(help="Output of finetune, trained with --sparse 0.")],
    output: Output,
    overwrite: Overwrite = False,
) -> None:
    """Write an adapter folder's update and task head as a LoRA adapter that PEFT loads."""
    wrote(dsee_compress.export_peft(folder, output=output, overwrite=overwrite))
