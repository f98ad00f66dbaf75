"""dsee-compress push."""

from pathlib import Path
from typing import Annotated, Any

import typer

import dsee_compress
from dsee_compress.configs import PushConfig
from dsee_compress.plain import plain

from .options import options_of
from .printing import line, listing


@options_of(PushConfig)
def push(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or a reported output of export.")],
    repo: Annotated[str, typer.Argument(help="Repository on the hub, owner/name; made if it is not there.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the files and the card; needs no network and no token.")
    ] = False,
    **options: Any,
) -> None:
    """Put an export with its report, and a model card made from it, into a repository of the Hugging Face hub."""
    config = PushConfig.parse(options)
    if dry_run:
        from dsee_compress.stages import push as stage

        planned = stage.plan(run, repo, config)
        listing(f"files for {repo}", ["", "bytes"], [[upload.name, f"{upload.size:,}"] for upload in planned])
        print(plain(stage.card_of(planned), keep="\n"))
    else:
        line(f"pushed as {dsee_compress.push(run, repo, **options)}")
    if config.license is None:
        line("the card names no licence; --license gives it one")
