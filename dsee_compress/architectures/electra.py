"""ELECTRA (Clark et al., 2020): BERT's layers on embeddings that may be narrower, a head of two Linears."""

from dataclasses import replace

from .bert import BERT
from .structure import register

ELECTRA = register(
    replace(
        BERT,
        model_type="electra",
        layers="electra.encoder.layer",
        heads={"sequence": ("classifier",), "token": ("classifier",)},
    )
)
