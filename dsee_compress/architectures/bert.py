"""BERT (Devlin et al., 2019)."""

from .structure import Architecture, register

BERT = register(
    Architecture(
        model_type="bert",
        layers="bert.encoder.layer",
        linears={
            "query": "attention.self.query",
            "key": "attention.self.key",
            "value": "attention.self.value",
            "attention_output": "attention.output.dense",
            "ffn_in": "intermediate.dense",
            "ffn_out": "output.dense",
        },
        attention="attention.self",
        head_count="num_attention_heads",
        head_width="all_head_size",
        heads={"sequence": ("bert.pooler", "classifier"), "token": ("classifier",)},
    )
)
