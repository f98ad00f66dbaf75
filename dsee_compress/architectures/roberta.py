"""RoBERTa (Liu et al., 2019): BERT's layers under another name, a head of two Linears, and positions
that start after the padding id."""

from dataclasses import replace

from .bert import BERT
from .structure import register

ROBERTA = register(
    replace(
        BERT,
        model_type="roberta",
        layers="roberta.encoder.layer",
        heads={"sequence": ("classifier",), "token": ("classifier",)},
        positions_after_padding=True,
    )
)
