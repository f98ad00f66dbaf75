"""dsee-compress validate."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

import dsee_compress
from dsee_compress.configs import ValidateConfig

from .options import Overwrite, options_of
from .printing import listing, wrote


@options_of(ValidateConfig)
def validate(
    folder: Annotated[Path, typer.Argument(help="Output of finetune, prune or export.")],
    overwrite: Overwrite = False,
    **options: Any,
) -> None:
    """Measure accuracy, with intervals, and parity of a folder and of all that it was made from."""
    written = dsee_compress.validate(folder, overwrite=overwrite, **options)
    result = json.loads((written / "validation.json").read_text())
    rows = [
        [name, f"{entry['value']:.2%}", f"{entry['ci95'][0]:.2%} to {entry['ci95'][1]:.2%}"]
        for name, entry in result["accuracy"].items()
    ]
    listing(f"{result['metric']} on {result['examples']} {result['split']} examples", ["", "", "95 %"], rows)
    for gate in result["gates"]:
        low, high = gate["change"]["ci95"]
        print(
            f"{gate['gate']}: {gate['candidate']} {gate['change']['value']:+.2%} ({low:+.2%} to {high:+.2%}) "
            f"against {gate['reference']}, allowed -{gate['allowed_drop']:.2%}: {gate['verdict']}"
        )
    wrote(written)
