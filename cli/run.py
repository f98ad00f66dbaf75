"""dsee-compress run."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from .options import Output, Overwrite
from .printing import accuracy, latency, line, listing, wrote


def run(
    recipe: Annotated[Path, typer.Argument(help="YAML file with the options of every stage.")],
    output: Output,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="stage.option=value, over the recipe; may be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, show the plan, start nothing.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Run every stage of a recipe that is not up to date, and write the report."""
    from dsee_compress.stages import run as stage

    config = stage.read_recipe(recipe, settings or [])
    if dry_run:
        for note in stage.check(config, output):
            print(note, file=sys.stderr)
        rows = [
            [
                planned.name,
                planned.purpose,
                str(planned.output),
                "is there" if planned.output.exists() else "to do",
            ]
            for planned in stage.plan(config, output)
        ]
        listing("plan", ["stage", "", "writes", ""], rows, figures=False)
        return
    folder = stage.run(config, output, overwrite)
    report = json.loads((folder / "report.json").read_text())
    cost = report["cost"]
    task = report["task"]
    accuracy(f"{task['name']}, {task['validation_examples']} examples", task["metric"], report)
    latency(report["latency"] + report["latency_grid"], report["latency_reference"], report["environment"])
    counted = "the blocks' FLOPs" if "writing" in report else "the FLOPs"
    line(
        f"{cost['flops']['saved']:.1%} of {counted} saved, {cost['parameters']['final']:,} of "
        f"{cost['parameters']['dense']:,} parameters left; the whole report is {folder / 'report.html'}"
    )
    wrote(folder)
