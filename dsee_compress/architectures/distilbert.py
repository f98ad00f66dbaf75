"""DistilBERT (Sanh et al., 2019): half of BERT's layers under names of its own, no token types."""

from .structure import Architecture, register

DISTILBERT = register(
    Architecture(
        model_type="distilbert",
        layers="distilbert.transformer.layer",
        linears={
            "query": "attention.q_lin",
            "key": "attention.k_lin",
            "value": "attention.v_lin",
            "attention_output": "attention.out_lin",
            "ffn_in": "ffn.lin1",
            "ffn_out": "ffn.lin2",
        },
        attention="attention",
        head_count="n_heads",
        head_width="dim",
        heads={"sequence": ("pre_classifier", "classifier"), "token": ("classifier",)},
        activation="activation",
        token_types=False,
    )
)
