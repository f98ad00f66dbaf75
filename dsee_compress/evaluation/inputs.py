"""Batches that models are fed with. Imports neither torch nor transformers: peak_memory measures with it."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
Batch = dict[str, Any]
Forward = Callable[[Batch], Logits]
"""From a padded batch of integer arrays (batch, sequence) to logits (batch, labels)."""
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
"""What a model may ask for."""
LOGITS_TO_KEEP = "logits_to_keep"
"""What a decoder may be told, too: of how many of the last tokens the logits are wanted; 0 of all."""


def padded_batches(
    rows: Any, collator: Callable[[list[dict[str, Any]]], Any], size: int, *, labelled: bool = False
) -> list[Batch]:
    """Rows in batches of `size`, in their order, padded to the longest of the batch; `labels` only if `labelled`."""
    batches = []
    for start in range(0, len(rows), size):
        chosen = [rows[index] for index in range(start, min(start + size, len(rows)))]
        padded = collator([{name: row[name] for name in row if labelled or name != "labels"} for row in chosen])
        batches.append({name: tensor.numpy() for name, tensor in padded.items()})
    return batches


def random_batches(
    shapes: list[tuple[int, int]],
    vocabulary: int,
    inputs: list[str],
    *,
    pad_token: int = 0,
    seed: int = 0,
    window: int | None = None,
) -> list[Batch]:
    """Batches of random token ids with padding, one a shape (batch, sequence).

    inputs: names of the model's inputs, of INPUTS. The first row fills its length; each other row is cut at a random
    length of at least 1, every third one at its start, not at its end. window: how far a token sees, if that is not
    everywhere; no more is then cut at a start, as a first token that sees nothing answers anything.
    """
    generator = np.random.default_rng(seed)
    batches = []
    for batch, length in shapes:
        lengths = generator.integers(1, length + 1, size=batch)
        lengths[0] = length
        if window is not None:
            lengths[2::3] = np.maximum(lengths[2::3], length - window)
        attention = (np.arange(length) < lengths[:, None]).astype(np.int64)
        attention[2::3] = attention[2::3, ::-1]
        # Special tokens stand at the start of a vocabulary, and RoBERTa counts positions by the padding id.
        ids = generator.integers(min(1000, vocabulary // 2), vocabulary, size=(batch, length))
        arrays = {
            "input_ids": np.where(attention == 1, ids, pad_token).astype(np.int64),
            "attention_mask": attention,
            "token_type_ids": np.zeros((batch, length), np.int64),
            "position_ids": positions(attention),
        }
        batches.append({name: arrays[name] for name in inputs})
    return batches


def random_prompts(shapes: list[tuple[int, int]], vocabulary: int, *, seed: int = 0) -> list[Batch]:
    """Batches of random token ids, padded on the left as generation wants it, one a shape (batch, tokens).

    The first row fills its length; each other row begins anywhere. Positions count the tokens that are not padding.
    """
    generator = np.random.default_rng(seed)
    batches = []
    for batch, length in shapes:
        begins = generator.integers(0, length, size=batch)
        begins[0] = 0
        attention = (np.arange(length) >= begins[:, None]).astype(np.int64)
        batches.append(
            {
                "input_ids": generator.integers(0, vocabulary, size=(batch, length)),
                "attention_mask": attention,
                "position_ids": positions(attention),
            }
        )
    return batches


def positions(attention: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each token's place among those that are not padding."""
    return np.maximum(attention.cumsum(axis=1) - 1, 0)
