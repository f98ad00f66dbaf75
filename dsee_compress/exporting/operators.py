"""The operators that a decoder's layers are written in: ONNX's own alone, or ONNX Runtime's too."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..configs import Graph

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines of every position, (positions, head size / 2)."""

_MASKED = -10000.0
"""What is added to the score of a token that may not be seen: fp16 holds twice as much, and its exponential is 0."""


@dataclass(frozen=True)
class Heads:
    """A layer's heads."""

    layer: int
    queries: int
    """Heads of queries, of which neighbours may share a key and a value."""
    scale: float
    """What their products with the keys are multiplied by."""
    window: int | None = None
    """How many tokens each sees at most, the last of which is itself; all before it, if not given."""


@dataclass
class Step:
    """What one forward pass knows and learns beside its tokens; stands in for transformers' cache."""

    past: list[Tensor]
    """Keys and values of each layer's earlier tokens, (batch, heads, past, head size)."""
    present: list[Tensor]
    """The same with the new tokens, once the layer has seen them."""
    masks: dict[int | None, tuple[Tensor, ...]]
    """What `Operators.masks` made for each window that layers have; the graph keeps what they use."""
    position_ids: Tensor

    def past_of(self, layer: int) -> list[Tensor]:
        """The key and the value of a layer's earlier tokens."""
        return self.past[2 * layer : 2 * layer + 2]

    def get_seq_length(self, layer: int = 0) -> int:
        """Earlier tokens, padding included: transformers asks for it."""
        return self.past[2 * layer].shape[2]


class Operators(Protocol):
    """How a style of graphs writes what layers are made of. Hidden tensors are (batch, tokens, heads · head size)."""

    def masks(self, attention_mask: Tensor, tokens: int, window: int | None) -> tuple[Tensor, ...]:
        """What `attend` masks by, of attention_mask (batch, past + tokens): 0 for padding. window: as `Heads` says."""
        ...

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: Heads, step: Step) -> Tensor:
        """What the queries see, (batch, tokens, heads · head size); notes the layer's present."""
        ...

    def rotate(self, x: Tensor, position_ids: Tensor, rotation: Rotation, heads: int) -> Tensor:
        """Turn the first and the second half of each head into one another by its position."""
        ...

    def gelu(self, x: Tensor, approximate: bool) -> Tensor:
        """GELU, exact or by its approximation with a tanh."""
        ...

    def rms_norm(self, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """Normalisation by the root mean square of the last dimension."""
        ...


class Portable:
    """Operators of ONNX alone, `Attention` among them: opset 23."""

    def masks(self, attention_mask: Tensor, tokens: int, window: int | None) -> tuple[Tensor, ...]:
        """As `Operators.masks`."""
        return (_visible(attention_mask, tokens, window),)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: Heads, step: Step) -> Tensor:
        """As `Operators.attend`, in one node."""
        past = step.past_of(heads.layer)
        mixed, *present, _ = torch.onnx.ops.attention(
            query,
            key,
            value,
            *step.masks[heads.window],
            *past,
            q_num_heads=heads.queries,
            kv_num_heads=past[0].shape[1],
            scale=heads.scale,
        )
        step.present += present
        return mixed

    def rotate(self, x: Tensor, position_ids: Tensor, rotation: Rotation, heads: int) -> Tensor:
        """As `Operators.rotate`."""
        return torch.onnx.ops.rotary_embedding(x, *rotation, position_ids, num_heads=heads)

    def gelu(self, x: Tensor, approximate: bool) -> Tensor:
        """As `Operators.gelu`."""
        return torch.nn.functional.gelu(x, approximate="tanh" if approximate else "none")

    def rms_norm(self, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """As `Operators.rms_norm`."""
        return torch.nn.functional.rms_norm(x, weight.shape, weight, epsilon)


class Fused:
    """ONNX Runtime's operators for attention, rotation, activation and normalisation.

    GroupQueryAttention takes a prompt, or one token on top of a past, of many sequences; several tokens on top of a
    past it takes of one sequence alone.
    """

    def masks(self, attention_mask: Tensor, tokens: int, window: int | None) -> tuple[Tensor, ...]:
        """As `Operators.masks`."""
        bias = torch.where(_visible(attention_mask, tokens, window), 0.0, _MASKED)
        total = attention_mask.shape[1]
        last = torch.full_like(attention_mask[:, 0], total - 1, dtype=torch.int32)
        return attention_mask.to(torch.int32), bias, last, torch.scalar_tensor(total, dtype=torch.int32)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: Heads, step: Step) -> Tensor:
        """As `Operators.attend`, in one node."""
        past = step.past_of(heads.layer)
        batch, groups, _, size = past[0].shape
        padding, bias, last, total = step.masks[heads.window]
        if groups == heads.queries:
            near = None if heads.window is None else bias
            name, inputs = "MultiHeadAttention", [query, key, value, None, padding, near, *past]
            attributes = {"unidirectional": 1, "mask_filter_value": _MASKED}
        else:
            name, inputs = "GroupQueryAttention", [query, key, value, *past, last, total, None, None, None, bias]
            attributes = {"kv_num_heads": groups}
        present_shape = [batch, groups, padding.shape[1], size]
        mixed, *present = torch.onnx.ops.symbolic_multi_out(
            f"com.microsoft::{name}",
            inputs,
            {"num_heads": heads.queries, "scale": heads.scale, **attributes},
            dtypes=[query.dtype] * 3,
            shapes=[query.shape, present_shape, present_shape],
            version=1,
        )
        step.present += present
        return mixed

    def rotate(self, x: Tensor, position_ids: Tensor, rotation: Rotation, heads: int) -> Tensor:
        """As `Operators.rotate`."""
        return torch.onnx.ops.symbolic(
            "com.microsoft::RotaryEmbedding",
            [x, position_ids, *rotation],
            {"num_heads": heads},
            dtype=x.dtype,
            shape=x.shape,
            version=1,
        )

    def gelu(self, x: Tensor, approximate: bool) -> Tensor:
        """As `Operators.gelu`."""
        name = "FastGelu" if approximate else "Gelu"
        return torch.onnx.ops.symbolic(f"com.microsoft::{name}", [x], dtype=x.dtype, shape=x.shape, version=1)

    def rms_norm(self, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """As `Operators.rms_norm`."""
        return torch.onnx.ops.symbolic(
            "::SimplifiedLayerNormalization",
            [x, weight],
            {"axis": -1, "epsilon": epsilon},
            dtype=x.dtype,
            shape=x.shape,
            version=1,
        )


def _visible(attention_mask: Tensor, tokens: int, window: int | None) -> Tensor:
    """Which of all tokens each of the last `tokens` sees, (batch, 1, tokens, past + tokens)."""
    column = torch.arange(attention_mask.shape[1])
    row = column[attention_mask.shape[1] - tokens :, None]
    seen = column <= row
    if window is not None:
        seen = seen & (column > row - window)
    return seen & attention_mask.bool()[:, None, None]


STYLES: dict[Graph, Operators] = {"fused": Fused(), "portable": Portable()}
