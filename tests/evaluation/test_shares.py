"""What each part of an encoder weighs is found in its file to the byte, whatever the exporter calls the weights."""

from collections import Counter

import pytest
import torch

from dsee_compress import architectures
from dsee_compress.evaluation import shares
from dsee_compress.exporting.passes import dynamic

from ..fixtures.graphs import changed, resized, write

SCALE = 4 + 1
"""Bytes beside numbers of 8 bits: their scale in fp32, and their zero point."""


def part_of(name: str, table: architectures.Architecture) -> str | None:
    """Where a parameter of the PyTorch model belongs, by the module that holds it; layer normalisations are in none."""
    module = name.rpartition(".")[0]
    if name.startswith(tuple(f"{head}." for head in table.heads["sequence"])):
        return "task_head"
    inside = module.removeprefix(f"{table.layers}.").partition(".")[2]
    roles = [role for role, linear in table.linears.items() if linear == inside]
    if roles:
        return "ffn" if roles[0].startswith("ffn") else "attention"
    return "embeddings" if "embeddings" in name else None


def weights(model: torch.nn.Module, one_query: bool) -> dict[str, tuple[str, torch.Tensor]]:
    """Name → part and values, of what is in the file: an attention of one query needs no bias of its key."""
    table = architectures.of(model)
    last = architectures.layers(model)[-1]
    gone = last.linear("key").bias if one_query else None
    return {
        name: (part, weight)
        for name, weight in model.named_parameters()
        if weight is not gone and (part := part_of(name, table))
    }


def in_fp32(model: torch.nn.Module, one_query: bool) -> Counter[str]:
    """Bytes of each part."""
    total: Counter[str] = Counter()
    for part, weight in weights(model, one_query).values():
        total[part] += weight.numel() * 4
    return total


def in_int8(model: torch.nn.Module, one_query: bool, in_full: str) -> Counter[str]:
    """Bytes of each part: a table that is looked up has one scale, each row of a Linear its own; vectors stay in fp32,
    and so do what one query asks of keys and values, and the parameter whose name has `in_full`."""
    last = architectures.layers(model)[-1]
    apart = [last.linear(role).weight for role in ("key", "value")] if one_query else []
    total: Counter[str] = Counter()
    for name, (part, weight) in weights(model, one_query).items():
        if weight.dim() == 1 or any(weight is other for other in apart) or (in_full and in_full in name):
            total[part] += weight.numel() * 4
        else:
            table = ("embeddings" in name and "project" not in name) or "position_bias" in name
            total[part] += weight.numel() + SCALE * (1 if table else len(weight))
    return total


@pytest.mark.parametrize("style", ["fused", "portable"])
def test_every_weight_is_found_in_its_part(family, style, tmp_path):
    model, lower = resized(family, "unequal"), tmp_path / "model_int8.onnx"
    path = write(model, tmp_path / "model.onnx", style, {"fused": 18, "portable": 23}[style])
    changed(path, lower, lambda model: dynamic.quantise(model, reduce_range=True))
    one_query = architectures.of(model).one_query

    def found(file) -> dict[str, int]:
        return {part: round(size * 1e6) for part, size in shares.megabytes(file).items()}

    assert found(path) == in_fp32(model, one_query)
    # Positions that are normalised, or cut to the input's length, before they are multiplied stay as they are.
    assert found(lower) == in_int8(model, one_query, "rel_embeddings")
