"""XLM-R (Conneau et al., 2020): RoBERTa on a hundred languages, with a vocabulary of SentencePiece."""

from dataclasses import replace

from .roberta import ROBERTA
from .structure import register

XLM_ROBERTA = register(replace(ROBERTA, model_type="xlm-roberta"))
