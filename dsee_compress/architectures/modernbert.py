"""ModernBERT (Warner et al., 2024): gated FFN, rotary positions, local attention in most layers, norms before parts."""

from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.modernbert.modeling_modernbert import ModernBertMLP

from . import packed
from .structure import Architecture, register


class _Mlp(ModernBertMLP):
    """With two Linears where transformers has one, `Wi`, whose output it cuts apart."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """hidden_states: (batch, tokens, width)."""
        inner = self.act(self.ffn_in(hidden_states)) * self.ffn_gate(hidden_states)
        found: Tensor = self.Wo(self.drop(inner))
        return found


def take_apart(model: PreTrainedModel) -> None:
    """Give each of the FFN's two inputs a Linear of its own."""
    model.config.reference_compile = False  # transformers would compile each FFN on a GPU, whole as it was
    for layer in model.get_submodule(MODERNBERT.layers):
        mlp = layer.get_submodule("mlp")
        mlp.__class__ = _Mlp
        mlp.ffn_in, mlp.ffn_gate = packed.parts_of(mlp.Wi, 2)
        del mlp.Wi


MODERNBERT = register(
    Architecture(
        model_type="modernbert",
        layers="model.layers",
        linears={
            "query": "attn.Wqkv.query",
            "key": "attn.Wqkv.key",
            "value": "attn.Wqkv.value",
            "attention_output": "attn.Wo",
            "ffn_in": "mlp.ffn_in",
            "ffn_gate": "mlp.ffn_gate",
            "ffn_out": "mlp.Wo",
        },
        attention="attn",
        head_count="num_heads",
        head_width="all_head_size",
        heads={"sequence": ("head", "classifier"), "token": ("head", "classifier")},
        one_query=False,
        activation="hidden_activation",
        token_types=False,
        packed={"attn.Wqkv": ("query", "key", "value")},
        take_apart=take_apart,
    )
)
