"""dsee-compress prune."""

from pathlib import Path
from typing import Annotated, Any

import typer

import dsee_compress
from dsee_compress.configs import PruneConfig
from dsee_compress.store.manifest import PruneManifest
from dsee_compress.store.stage_metrics import OrderMetrics

from .options import Output, Overwrite, options_of
from .printing import facts, measured, wrote


@options_of(PruneConfig)
def prune(
    folder: Annotated[Path, typer.Argument(help="Output of finetune.")],
    output: Output,
    overwrite: Overwrite = False,
    **options: Any,
) -> None:
    """Remove heads and neurons that the task does not need (or zero single weights), and retune."""
    written = dsee_compress.prune(folder, output=output, overwrite=overwrite, **options)
    manifest = PruneManifest.read(written)
    metrics = manifest.metrics
    facts(
        "pruned",
        {
            "heads kept, a layer": manifest.structure.head_counts,
            "neurons kept, a layer": manifest.structure.neuron_counts,
            **_ordered(metrics.order),
            "FLOPs saved": f"{metrics.flops.saved:.1%} at {metrics.flops.sequence_length} tokens",
            "zero weights": f"{metrics.weight_sparsity:.1%}",
            "parameters": f"{metrics.parameters:,}",
            **measured(metrics.validation),
            "merge, removal": f"{metrics.merge_max_abs:.1e}, {metrics.removal_max_abs:.1e}",
        },
    )
    wrote(written)


def _ordered(order: OrderMetrics | None) -> dict[str, str]:
    """What was ordered, and what the table says of the model."""
    if order is None:
        return {}
    figures = f"{order.predicted:.3g} {order.unit} of {order.budget:.3g}; dense {order.dense:.3g}"
    return {f"{order.order}, {order.precision}": f"{figures} (as the table has it)"}
