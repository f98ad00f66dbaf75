"""dsee-compress finetune."""

from typing import Any

import dsee_compress
from dsee_compress.configs import FinetuneConfig
from dsee_compress.store.manifest import FinetuneManifest

from .options import Output, Overwrite, options_of
from .printing import facts, measured, wrote


@options_of(FinetuneConfig)
def finetune(output: Output, overwrite: Overwrite = False, **options: Any) -> None:
    """Fine-tune a pretrained model with DSEE: low-rank plus sparse updates on frozen weights."""
    folder = dsee_compress.finetune(output=output, overwrite=overwrite, **options)
    metrics = FinetuneManifest.read(folder).metrics
    facts(
        "fine-tuned",
        {
            "trainable parameters": f"{metrics.trainable_parameters:,} ({metrics.trainable_fraction:.2%})",
            "task head": f"{metrics.task_head_parameters:,}",
            **measured(metrics.validation),
            "seconds": f"{metrics.training.seconds:.0f} on {metrics.training.device}",
        },
    )
    wrote(folder)
