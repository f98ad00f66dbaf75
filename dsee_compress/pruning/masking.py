"""S1 as masks: masked units and weights give zero, and stay zero in training.

Units are masked for the removal gate, which holds the cut model against them; single weights, while they are retuned.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .. import architectures
from ..adapters.layer import DseeLinear
from ..store.structure import Structure


def mask_structure(model: PreTrainedModel, structure: Structure) -> None:
    """Silence the heads and neurons that `structure` does not keep, in every Linear that they touch.

    A head loses its rows (and biases) in query, key and value and its columns in the output projection; a neuron
    its row (and bias) in the FFN's first Linear and its column in the second.
    """
    for layer, heads, neurons in zip(architectures.layers(model), structure.heads, structure.neurons, strict=True):
        units = {"heads": _indicator(heads, layer.heads), "neurons": _indicator(neurons, layer.neurons)}
        for place, unit, axis in layer.units:
            linear, mask = layer.linear(place), units[unit].repeat_interleave(layer.width(place))
            _mask(linear, mask.unsqueeze(1 - axis))
            if axis == 0 and linear.bias is not None:
                with torch.no_grad():
                    linear.bias.mul_(mask.to(linear.bias.device))


def mask_weights(model: PreTrainedModel, masks: list[Tensor]) -> None:
    """Silence single weights; `masks` in the order of `architectures.named_linears`, each of its weight's shape."""
    for (_, _, linear), mask in zip(architectures.named_linears(model), masks, strict=True):
        _mask(linear, mask)


def _indicator(kept: list[int], count: int) -> Tensor:
    mask = torch.zeros(count)
    mask[kept] = 1
    return mask


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
