"""Physical removal: the same function from smaller matrices."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .. import architectures
from ..architectures import Layer
from ..checkpoint import Structure
from ..configs import Role


def remove(model: PreTrainedModel, structure: Structure) -> None:
    """Cut the heads and neurons that `structure` does not keep out of a merged model, in place.

    Query, key and value lose the same rows, the output projection the matching columns; a neuron its row and bias
    in the FFN's first Linear and its column in the second. Raises ValueError if a layer would keep none.
    """
    for layer, heads, neurons in zip(architectures.layers(model), structure.heads, structure.neurons, strict=True):
        if not heads or not neurons:
            raise ValueError("every layer keeps at least one head and one neuron")
        width = torch.arange(layer.heads * layer.head_size).view(layer.heads, layer.head_size)[heads].flatten()
        units = torch.tensor(neurons)
        for role in ("query", "key", "value"):
            _cut(layer, role, rows=width)  # type: ignore[arg-type]
        _cut(layer, "attention_output", columns=width)
        _cut(layer, "ffn_in", rows=units)
        _cut(layer, "ffn_out", columns=units)
        layer.set_heads(len(heads))


def _cut(layer: Layer, role: Role, rows: Tensor | None = None, columns: Tensor | None = None) -> None:
    old = layer.linear(role)
    assert isinstance(old, nn.Linear)
    weight, bias = old.weight.detach(), None if old.bias is None else old.bias.detach()
    if rows is not None:
        weight, bias = weight[rows], None if bias is None else bias[rows]
    if columns is not None:
        weight = weight[:, columns]
    new = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    new.weight = nn.Parameter(weight.contiguous())
    if bias is not None:
        new.bias = nn.Parameter(bias.clone())
    layer.replace(role, new)
