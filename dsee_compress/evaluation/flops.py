"""What a forward pass costs, counted by torch on tensors without storage."""

from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForSequenceClassification

from .. import architectures, checkpoint
from ..checkpoint import Structure


def count(folder: Path, structure: Structure, length: int) -> int:
    """FLOPs (two a multiply-add) of one sequence of `length` tokens, embeddings' look-ups excluded.

    folder: holds config.json. structure: what each layer keeps.
    """
    config = checkpoint.model_config(folder)
    with torch.device("meta"), torch.no_grad():
        # Eager attention is products that the counter sees; fused kernels differ between devices.
        model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
        # The counter hooks what needs a gradient, and fails on views made without.
        model.eval().requires_grad_(False)
        architectures.resize(model, structure.head_counts, structure.neuron_counts)
        ids = torch.ones((1, length), dtype=torch.int64)
        with FlopCounterMode(display=False) as counter:
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return int(counter.get_total_flops())
