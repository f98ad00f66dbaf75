"""dsee-compress generate."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dsee_compress.configs import GenerateConfig
from dsee_compress.plain import plain

from .options import options_of


@options_of(GenerateConfig)
def generate(
    folder: Annotated[Path, typer.Argument(help="Output of export.")],
    prompt: Annotated[
        list[str], typer.Option(help="What to write to, as a source of the training data; may be given several times.")
    ],
    **options: Any,
) -> None:
    """Write to prompts with an exported decoder, a text a line, each word as soon as it is there."""
    config = GenerateConfig.parse(options)
    from dsee_compress.stages import generate as stage

    def tell(piece: str) -> None:
        sys.stdout.write(plain(piece, keep="\n\t") if sys.stdout.isatty() else piece)
        sys.stdout.flush()

    stage.generate(folder, prompt, config, tell)
