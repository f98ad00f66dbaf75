"""MPNet (Song et al., 2020): RoBERTa with a bias of each head by relative position, from a table that layers share."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.mpnet.modeling_mpnet import MPNetSelfAttention

from .structure import Architecture, register


class _Buckets(nn.Module):
    """Stands where the shared table is looked up, and hands the layers the bucket of each distance."""

    def forward(self, buckets: Tensor) -> Tensor:
        """buckets: (queries, keys). Returns them as the biases of one head, (queries, keys, 1)."""
        return buckets.unsqueeze(-1)


class _SelfAttention(MPNetSelfAttention):
    """With a table of its own heads, `position_bias`, whose weight is (buckets, heads)."""

    position_bias: nn.Linear

    def forward(self, hidden_states: Tensor, *given: Any, **options: Any) -> Any:
        """As transformers calls it, with the bucket of each pair of tokens where it has the biases of the heads."""
        own = [self._biases(one) if isinstance(one, Tensor) and one.dtype == torch.int64 else one for one in given]
        return super().forward(hidden_states, *own, **options)

    def _biases(self, buckets: Tensor) -> Tensor:
        """buckets: (batch, 1, queries, keys), the same for every sequence. Returns (1, heads, queries, keys)."""
        return nn.functional.embedding(buckets[0, 0], self.position_bias.weight).permute(2, 0, 1)[None]


def take_apart(model: PreTrainedModel) -> None:
    """Give each layer a copy of the table, from which its heads can go; it is not trained, so the copies stay alike."""
    encoder = model.get_submodule("mpnet.encoder")
    table = encoder.get_submodule("relative_attention_bias").weight
    for layer in model.get_submodule(MPNET.layers):
        attention = layer.get_submodule(MPNET.attention)
        attention.__class__ = _SelfAttention
        attention.position_bias = nn.Linear(table.shape[1], table.shape[0], bias=False, device="meta")
        attention.position_bias.weight = nn.Parameter(table.detach().clone())
    encoder.relative_attention_bias = _Buckets()


MPNET = register(
    Architecture(
        model_type="mpnet",
        layers="mpnet.encoder.layer",
        linears={
            "query": "attention.attn.q",
            "key": "attention.attn.k",
            "value": "attention.attn.v",
            "position_bias": "attention.attn.position_bias",
            "attention_output": "attention.attn.o",
            "ffn_in": "intermediate.dense",
            "ffn_out": "output.dense",
        },
        attention="attention.attn",
        head_count="num_attention_heads",
        head_width="all_head_size",
        heads={"sequence": ("classifier",), "token": ("classifier",)},
        one_query=False,
        token_types=False,
        positions_after_padding=True,
        padding=1,
        take_apart=take_apart,
    )
)
