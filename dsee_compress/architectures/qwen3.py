"""Qwen3 (Yang et al., 2025): Llama whose queries and keys are normalised, head by head, before they are turned."""

from dataclasses import replace

from .llama import LLAMA
from .structure import register

QWEN3 = register(
    replace(
        LLAMA,
        model_type="qwen3",
        head_norms={"query": "self_attn.q_norm", "key": "self_attn.k_norm"},
    )
)
