"""dsee-compress validate."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

import dsee_compress
from dsee_compress.configs import ValidateConfig

from .options import Overwrite, options_of
from .printing import accuracy, readers, wrote


@options_of(ValidateConfig)
def validate(
    folder: Annotated[Path, typer.Argument(help="Output of finetune, prune or export.")],
    overwrite: Overwrite = False,
    **options: Any,
) -> None:
    """Measure the metrics, with intervals, and parity of a folder and of all that it was made from."""
    written = dsee_compress.validate(folder, overwrite=overwrite, **options)
    result = json.loads((written / "validation.json").read_text())
    accuracy(f"{result['examples']} {result['split']} examples", result["metric"], result)
    readers(result["readers"])
    wrote(written)
