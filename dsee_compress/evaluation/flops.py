"""What a forward pass costs, counted by torch on tensors without storage."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForSequenceClassification, PretrainedConfig

from .. import architectures, checkpoint
from ..checkpoint import Structure


@dataclass(frozen=True)
class Costs:
    """FLOPs of one forward pass, and how many of them one head and one neuron of any layer cause."""

    whole: int
    head: int
    neuron: int

    def saved(self, heads: int, neurons: int) -> float:
        """Share of the FLOPs that the removal of so many heads and neurons saves."""
        return (heads * self.head + neurons * self.neuron) / self.whole


def count(folder: Path, structure: Structure, length: int) -> int:
    """FLOPs (two a multiply-add) of one sequence of `length` tokens, embeddings' look-ups excluded.

    folder: holds config.json. structure: what each layer keeps.
    """
    return count_resized(checkpoint.model_config(folder), structure.head_counts, structure.neuron_counts, length)


def costs(config: PretrainedConfig, heads: list[int], neurons: list[int], length: int) -> Costs:
    """The costs of a model with `heads[i]` heads and `neurons[i]` neurons in layer i, two of each at least."""
    whole = count_resized(config, heads, neurons, length)
    headless = count_resized(config, [heads[0] - 1, *heads[1:]], neurons, length)
    thinner = count_resized(config, heads, [neurons[0] - 1, *neurons[1:]], length)
    return Costs(whole, whole - headless, whole - thinner)


def count_resized(config: PretrainedConfig, heads: list[int], neurons: list[int], length: int) -> int:
    """As `count`, from a model's config and the number of heads and neurons that each layer keeps."""
    with torch.device("meta"), torch.no_grad():
        # Eager attention is products that the counter sees; fused kernels differ between devices.
        model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
        # The counter hooks what needs a gradient, and fails on views made without.
        model.eval().requires_grad_(False)
        architectures.resize(model, heads, neurons)
        ids = torch.ones((1, length), dtype=torch.int64)
        with FlopCounterMode(display=False) as counter:
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return int(counter.get_total_flops())
