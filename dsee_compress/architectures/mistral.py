"""Mistral (Jiang et al., 2023): Llama whose tokens may see a window of those before them alone."""

from dataclasses import replace

from .llama import LLAMA
from .structure import register

MISTRAL = register(replace(LLAMA, model_type="mistral"))
