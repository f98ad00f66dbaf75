"""GPT-2 (Radford et al., 2019): query, key and value in one matrix, all matrices stored transposed."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .structure import Architecture, register, set_submodule

_TRANSPOSED = ("attn.c_proj", "mlp.c_fc", "mlp.c_proj")


class Projections(nn.Module):
    """Query, key and value, each a Linear, where GPT-2 has one matrix with their columns side by side."""

    def __init__(self, query: nn.Linear, key: nn.Linear, value: nn.Linear) -> None:
        super().__init__()
        self.query, self.key, self.value = query, key, value

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., d). Returns (..., 3 · heads · head size)."""
        return torch.cat([self.query(x), self.key(x), self.value(x)], dim=-1)


def take_apart(model: PreTrainedModel) -> None:
    """Turn every Conv1D into Linears, `c_attn` into three; GELU, spelt out in the original, into torch's own."""
    for block in model.get_submodule(GPT2.layers):
        _take_apart(block)


def _take_apart(layer: nn.Module) -> None:
    for path in _TRANSPOSED:
        old = layer.get_submodule(path)
        assert isinstance(old, Conv1D)
        set_submodule(layer, path, _linear(old.weight.T, old.bias))
    fused = layer.get_submodule("attn.c_attn")
    assert isinstance(fused, Conv1D)
    parts = [_linear(*part) for part in zip(fused.weight.T.chunk(3), fused.bias.chunk(3), strict=True)]
    set_submodule(layer, "attn.c_attn", Projections(*parts))
    set_submodule(layer, "mlp.act", nn.GELU("tanh"))


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A Linear that owns copies of `weight` (d_out, d_in) and `bias` (d_out)."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    linear.weight = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format))
    linear.bias = nn.Parameter(bias.detach().clone())
    return linear


GPT2 = register(
    Architecture(
        model_type="gpt2",
        layers="transformer.h",
        linears={
            "query": "attn.c_attn.query",
            "key": "attn.c_attn.key",
            "value": "attn.c_attn.value",
            "attention_output": "attn.c_proj",
            "ffn_in": "mlp.c_fc",
            "ffn_out": "mlp.c_proj",
        },
        attention="attn",
        head_count="num_heads",
        head_width="split_size",
        heads={"language": ()},
        decoder=True,
        activation="activation_function",
        activations=("gelu_new",),
        take_apart=take_apart,
    )
)
