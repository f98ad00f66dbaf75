"""Llama (Touvron et al., 2023): query heads in groups that share a key and a value head, a gated FFN."""

from .structure import Architecture, register

LLAMA = register(
    Architecture(
        model_type="llama",
        layers="model.layers",
        linears={
            "query": "self_attn.q_proj",
            "key": "self_attn.k_proj",
            "value": "self_attn.v_proj",
            "attention_output": "self_attn.o_proj",
            "ffn_in": "mlp.up_proj",
            "ffn_gate": "mlp.gate_proj",
            "ffn_out": "mlp.down_proj",
        },
        attention="self_attn",
        heads={"language": ()},
        decoder=True,
        activations=("silu",),
    )
)
