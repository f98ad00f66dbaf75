"""dsee-compress inspect."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dsee_compress.store import lineage
from dsee_compress.store.manifest import Manifest
from dsee_compress.tasks import Spec

from .printing import facts, listing


def inspect(folder: Annotated[Path, typer.Argument(help="Any stage's output.")]) -> None:
    """Show what is in a stage folder: structure by layer, sizes, lineage, metrics."""
    manifest = Manifest.read(folder)
    parent = lineage.parent_of(folder, manifest)
    facts(
        str(folder),
        {
            "stage": manifest.stage,
            "model": f"{manifest.base} ({manifest.architecture})",
            "task": _described(manifest.task),
            "made from": parent or ("gone or changed" if manifest.parent else "the pretrained model"),
            "fingerprint": lineage.fingerprint(folder),
            "seed": manifest.seed,
        },
    )
    counts = zip(manifest.structure.head_counts, manifest.structure.neuron_counts, strict=True)
    rows = [[f"layer {index}", str(heads), str(neurons)] for index, (heads, neurons) in enumerate(counts)]
    listing("structure", ["", "heads", "neurons"], rows)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = [[path.relative_to(folder).as_posix(), f"{path.stat().st_size / 1e6:.2f}"] for path in files]
    listing("files", ["", "MB"], sizes)
    facts("config", manifest.config)
    facts("metrics", _flat(manifest.metrics.model_dump()))


def _described(task: Spec) -> str:
    asked = f"{len(task.labels)} labels" if task.prompt is None else f"prompt {task.prompt!r}"
    return f"{task.name} ({task.metric}), {asked}, data {task.data}"


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
