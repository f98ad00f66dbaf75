"""DeBERTa v2 and v3 (He et al., 2021): attention scores from content and relative positions."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention

from .bert import BERT
from .structure import register

_HIDDEN = -1e4
"""The score of what is hidden. Its exponential is 0, and it is not fp16's least number, which ONNX Runtime takes for
infinity."""


class _SelfAttention(DisentangledSelfAttention):
    """Exported with torch's own attention, which takes what positions add to the scores (He et al., equation 4) for its
    mask, and is one node."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        output_attentions: bool = False,
        query_states: Tensor | None = None,
        relative_pos: Tensor | None = None,
        rel_embeddings: Tensor | None = None,
    ) -> Any:
        """hidden_states: (batch, tokens, width); attention_mask: (batch, 1, tokens, tokens), 0 for what is hidden."""
        if not torch.onnx.is_in_onnx_export():
            given = (output_attentions, query_states, relative_pos, rel_embeddings)
            return super().forward(hidden_states, attention_mask, *given)
        asked, seen = hidden_states if query_states is None else query_states, attention_mask.bool()
        query, key, value = (
            self._heads(linear(x))
            for linear, x in (
                (self.query_proj, asked),
                (self.key_proj, hidden_states),
                (self.value_proj, hidden_states),
            )
        )
        # The rows of padding hide every token, and are uniform: so they ask nothing.
        query = query * (seen.sum(-1, keepdim=True) > 0)
        bias = torch.zeros(())
        scale = (self.attention_head_size * (1 + len({"c2p", "p2c"} & {*self.pos_att_type}))) ** -0.5
        if relative_pos is not None and rel_embeddings is not None:
            bias = scale * self._of_positions(query, key, relative_pos, rel_embeddings)
        mixed = nn.functional.scaled_dot_product_attention(
            query, key, value, torch.where(seen, bias, _HIDDEN), scale=scale
        )
        return mixed.transpose(1, 2).reshape(*asked.shape[:2], -1), None

    def _heads(self, projected: Tensor) -> Tensor:
        """(batch, heads, tokens, head size) of (batch, tokens, heads · head size)."""
        return projected.unflatten(-1, (-1, self.attention_head_size)).transpose(1, 2)

    def _of_positions(self, query: Tensor, key: Tensor, relative_pos: Tensor, rel_embeddings: Tensor) -> Tensor:
        """What each query adds for a key's distance, and each key for a query's, (batch, heads, tokens, tokens)."""
        span = self.pos_ebd_size
        places: Any = self.pos_dropout(rel_embeddings)[None, : 2 * span]
        distance = relative_pos.reshape(1, 1, *relative_pos.shape[-2:]).expand(*query.shape[:2], -1, -1)
        found = torch.zeros((), dtype=query.dtype, device=query.device)
        if "c2p" in self.pos_att_type:
            of_keys = self._heads((self.key_proj if self.share_att_key else self.pos_key_proj)(places))
            index = (distance + span).clamp(0, 2 * span - 1)
            found = found + (query @ of_keys.transpose(-1, -2)).gather(-1, index)
        if "p2c" in self.pos_att_type:
            of_queries = self._heads((self.query_proj if self.share_att_key else self.pos_query_proj)(places))
            index = (span - distance).clamp(0, 2 * span - 1)
            found = found + (key @ of_queries.transpose(-1, -2)).gather(-1, index).transpose(-1, -2)
        return found


def take_apart(model: PreTrainedModel) -> None:
    """Let each layer compute its attention in one operator."""
    for layer in model.get_submodule(DEBERTA_V2.layers):
        layer.get_submodule(DEBERTA_V2.attention).__class__ = _SelfAttention


DEBERTA_V2 = register(
    replace(
        BERT,
        model_type="deberta-v2",
        layers="deberta.encoder.layer",
        linears={
            "query": "attention.self.query_proj",
            "key": "attention.self.key_proj",
            "value": "attention.self.value_proj",
            # v3 projects positions with the weights of query and key, v2 may have these.
            "position_key": "attention.self.pos_key_proj",
            "position_query": "attention.self.pos_query_proj",
            "attention_output": "attention.output.dense",
            "ffn_in": "intermediate.dense",
            "ffn_out": "output.dense",
        },
        heads={"sequence": ("pooler", "classifier"), "token": ("classifier",)},
        one_query=False,
        take_apart=take_apart,
    )
)
