"""S1 while the model is trained again: masked units and weights give zero and stay zero."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .. import architectures
from ..adapters.layer import DseeLinear
from ..checkpoint import Structure


def mask_structure(model: PreTrainedModel, structure: Structure) -> None:
    """Silence the heads and neurons that `structure` does not keep, in every Linear that they touch.

    A head loses its rows (and biases) in query, key and value and its columns in the output projection; a neuron
    its row (and bias) in the FFN's first Linear and its column in the second.
    """
    kept = zip(architectures.layers(model), structure.heads, structure.neurons, strict=True)
    for layer, heads, neurons in kept:
        head_mask = _indicator(heads, layer.heads).repeat_interleave(layer.head_size)
        neuron_mask = _indicator(neurons, layer.neurons)
        for role in ("query", "key", "value"):
            _mask_rows(layer.linear(role), head_mask)  # type: ignore[arg-type]
        _mask(layer.linear("attention_output"), head_mask[None, :])
        _mask_rows(layer.linear("ffn_in"), neuron_mask)
        _mask(layer.linear("ffn_out"), neuron_mask[None, :])


def mask_weights(model: PreTrainedModel, masks: list[Tensor]) -> None:
    """Silence single weights; `masks` in the order of `architectures.named_linears`, each of its weight's shape."""
    for (_, _, linear), mask in zip(architectures.named_linears(model), masks, strict=True):
        _mask(linear, mask)


def _indicator(kept: list[int], count: int) -> Tensor:
    mask = torch.zeros(count)
    mask[kept] = 1
    return mask


def _mask_rows(linear: nn.Module, rows: Tensor) -> None:
    _mask(linear, rows[:, None])
    if linear.bias is not None:
        with torch.no_grad():
            linear.bias.mul_(rows.to(linear.bias.device))  # type: ignore[operator, union-attr, arg-type]


def _mask(linear: nn.Module, mask: Tensor) -> None:
    """A frozen weight is zeroed once; an update needs the mask at every step."""
    weight = linear.weight
    assert isinstance(weight, Tensor)
    mask = mask.to(weight.device, weight.dtype)
    if isinstance(linear, DseeLinear):
        linear.mask = mask
    else:
        with torch.no_grad():
            weight.mul_(mask)
