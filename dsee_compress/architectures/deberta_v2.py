"""DeBERTa v2 and v3 (He et al., 2021): attention scores from content and relative positions."""

from dataclasses import replace

from .bert import BERT
from .structure import register

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
        fuses_attention=False,
        one_query=False,
    )
)
