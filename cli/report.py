"""dsee-compress report."""

from pathlib import Path
from typing import Annotated

import typer

import dsee_compress

from .printing import wrote


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or a measured output of export.")],
    add: Annotated[
        list[Path] | None,
        typer.Option(
            help="latency.json that a bundle's bench.py wrote on a device, to be shown from now on; may be repeated.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write report.json, report.md and one self-contained report.html."""
    wrote(dsee_compress.report(run, add=add or []))
