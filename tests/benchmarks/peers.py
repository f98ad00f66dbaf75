"""What DSEE is compared with: PEFT's LoRA, full fine-tuning, and S2 as the published code keeps it."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from dsee_compress import architectures
from dsee_compress.adapters import model as adapters
from dsee_compress.adapters.decomposition import support
from dsee_compress.configs import FinetuneConfig


def dsee(model: PreTrainedModel, config: FinetuneConfig) -> nn.Module:
    """Ours: updates and task head are trained."""
    adapters.insert(model, config)
    return model


def lora(model: PreTrainedModel, config: FinetuneConfig) -> nn.Module:
    """PEFT's LoRA on the same Linears, with the same rank and alpha and the same task head, without dropout."""
    from peft import LoraConfig, get_peft_model

    table = architectures.of(model)
    options = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=[table.linears[role].rpartition(".")[2] for role in config.targets],
        modules_to_save=[path.rpartition(".")[2] for path in table.heads["sequence"]] or None,
        lora_dropout=0.0,
    )
    return get_peft_model(model, options)


def full(model: PreTrainedModel, config: FinetuneConfig) -> nn.Module:
    """Full fine-tuning: everything is trained."""
    return model.requires_grad_(True)


class MaskedS2(nn.Module):
    """LoRA beside a dense S2 under a 0/1 matrix: three products a forward pass, and a dense gradient."""

    def __init__(self, linear: nn.Linear, config: FinetuneConfig) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.scale = config.alpha / config.rank
        d_out, d_in = linear.weight.shape
        self.down = nn.Parameter(torch.empty(config.rank, d_in))
        self.up = nn.Parameter(torch.zeros(d_out, config.rank))
        self.sparse = nn.Parameter(torch.zeros(d_out, d_in))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        mask = torch.zeros(d_out, d_in)
        mask[support(linear.weight, config.rank, config.sparse)] = 1
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        low_rank = x @ self.down.T @ self.up.T
        return self.linear(x) + self.scale * (low_rank + x @ (self.sparse * self.mask).T)


def masked_s2(model: PreTrainedModel, config: FinetuneConfig) -> nn.Module:
    """DSEE with S2 as a dense masked matrix."""
    head = {id(parameter) for parameter in adapters.task_head(model).values()}
    model.requires_grad_(False)
    for layer in architectures.layers(model):
        for role in config.targets:
            layer.replace(role, MaskedS2(layer.linear(role), config))
    for parameter in model.parameters():
        if id(parameter) in head:
            parameter.requires_grad_(True)
    return model


PEERS: dict[str, Callable[[PreTrainedModel, FinetuneConfig], nn.Module]] = {
    "dsee": dsee,
    "lora": lora,
    "full": full,
    "masked_s2": masked_s2,
}
LEARNING_RATE = {"full": 5e-5}
"""Where it is not DSEE's and LoRA's."""
