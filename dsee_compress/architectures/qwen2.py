"""Qwen2 and Qwen2.5 (Yang et al., 2024): Llama with biases on query, key and value."""

from dataclasses import replace

from .llama import LLAMA
from .structure import register

QWEN2 = register(replace(LLAMA, model_type="qwen2"))
