"""GPT-2 (Radford et al., 2019): query, key and value in one matrix, all matrices stored transposed."""

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .packed import linear, set_submodule
from .structure import Architecture, register

_TRANSPOSED = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")


def take_apart(model: PreTrainedModel) -> None:
    """Turn every Conv1D into a Linear; GELU, spelt out in the original, into torch's own."""
    for block in model.get_submodule(GPT2.layers):
        for path in _TRANSPOSED:
            old = block.get_submodule(path)
            assert isinstance(old, Conv1D)
            set_submodule(block, path, linear(old.weight.T, old.bias))
        set_submodule(block, "mlp.act", nn.GELU("tanh"))


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
        packed={"attn.c_attn": ("query", "key", "value")},
        take_apart=take_apart,
    )
)
