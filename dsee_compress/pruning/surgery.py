"""Physical removal: the same function from smaller matrices, with their updates if they carry some."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .. import architectures
from ..adapters.layer import DseeLinear
from ..store.structure import Structure


def remove(model: PreTrainedModel, structure: Structure) -> None:
    """Cut the heads and neurons that `structure` does not keep out of a model, in place.

    structure: indices among the heads and neurons that the model has.
    Query, key and value lose the same rows, the output projection the matching columns; a neuron its row and bias
    in the FFN's first Linear and its column in the second. Raises ValueError if a layer would keep none.
    """
    for layer, heads, neurons in zip(architectures.layers(model), structure.heads, structure.neurons, strict=True):
        if not heads or not neurons:
            raise ValueError("every layer keeps at least one head and one neuron")
        kept = {"heads": torch.tensor(heads), "neurons": torch.tensor(neurons)}
        own = {place: _owned(kept[unit], layer.width(place)) for place, unit, _ in layer.units}
        for place, _, axis in layer.units:
            layer.replace(place, _cut(layer.linear(place), own[place], axis))
        layer.set_heads(len(heads))


def _owned(units: Tensor, width: int) -> Tensor:
    """The rows or columns of `units`, each of which owns `width` neighbours."""
    return (units[:, None] * width + torch.arange(width)).flatten()


def _cut(linear: nn.Module, kept: Tensor, axis: int) -> nn.Module:
    """The Linear with the rows or columns in `kept` alone; what was frozen stays frozen."""
    if isinstance(linear, DseeLinear):
        return linear.select(kept, axis)
    weight, bias = linear.weight.detach().index_select(axis, kept), linear.bias
    new = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    new.weight = nn.Parameter(weight, requires_grad=linear.weight.requires_grad)
    if bias is not None:
        cut = bias.detach()[kept] if axis == 0 else bias.detach().clone()
        new.bias = nn.Parameter(cut, requires_grad=bias.requires_grad)
    return new
