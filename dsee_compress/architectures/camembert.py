"""CamemBERT (Martin et al., 2020): RoBERTa on French, with a vocabulary of SentencePiece."""

from dataclasses import replace

from .roberta import ROBERTA
from .structure import register

CAMEMBERT = register(replace(ROBERTA, model_type="camembert"))
