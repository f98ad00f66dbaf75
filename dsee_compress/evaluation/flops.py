"""What a forward pass costs, counted by torch on tensors without storage."""

from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForSequenceClassification

from .. import architectures


def count(folder: Path, heads: list[int], neurons: list[int], length: int) -> int:
    """FLOPs (two a multiply-add) of one sequence of `length` tokens, embeddings' look-ups excluded.

    folder: holds config.json. heads, neurons: what each layer keeps.
    """
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"), torch.no_grad():
        # Eager attention is products that the counter sees; fused kernels differ between devices.
        model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").eval()
        architectures.resize(model, heads, neurons)
        ids = torch.ones((1, length), dtype=torch.int64)
        with FlopCounterMode(display=False) as counter:
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return int(counter.get_total_flops())
