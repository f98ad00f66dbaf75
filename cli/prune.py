"""dsee-compress prune."""

from pathlib import Path
from typing import Annotated, Any

import typer

import dsee_compress
from dsee_compress import checkpoint
from dsee_compress.configs import PruneConfig

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
    manifest = checkpoint.read(written)
    facts(
        "pruned",
        {
            "heads kept, a layer": manifest.structure.head_counts,
            "neurons kept, a layer": manifest.structure.neuron_counts,
            "FLOPs saved": "{saved:.1%} at {sequence_length} tokens".format_map(manifest.metrics["flops"]),
            "zero weights": f"{manifest.metrics['weight_sparsity']:.1%}",
            "parameters": f"{manifest.metrics['parameters']:,}",
            **measured(manifest.metrics["validation"]),
            "merge, removal": f"{manifest.metrics['merge_max_abs']:.1e}, {manifest.metrics['removal_max_abs']:.1e}",
        },
    )
    wrote(written)
