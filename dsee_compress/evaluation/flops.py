"""What a forward pass costs, counted by torch on tensors without storage."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import PretrainedConfig

from .. import architectures
from ..architectures import Layer
from ..checkpoint import Structure


@dataclass(frozen=True)
class Costs:
    """FLOPs of one forward pass, and how many of them one head and one neuron of any layer cause."""

    whole: int
    head: int
    neuron: int

    def saved(self, heads: int, neurons: int) -> float:
        """Share of the FLOPs that the removal of so many heads and neurons saves."""
        return (heads * self.head + neurons * self.neuron) / self.whole


def costs(config: PretrainedConfig, heads: list[int], neurons: list[int], length: int) -> Costs:
    """The costs of a model with `heads[i]` heads and `neurons[i]` neurons in layer i."""
    whole = count(config, heads, neurons, length)
    one_head_more = count(config, [heads[0] + 1, *heads[1:]], neurons, length)
    one_neuron_more = count(config, heads, [neurons[0] + 1, *neurons[1:]], length)
    return Costs(whole, one_head_more - whole, one_neuron_more - whole)


def compare(
    config: PretrainedConfig,
    dense: Structure,
    final: Structure,
    length: int,
    *,
    first_token: bool = True,
    one_query: bool = True,
) -> dict[str, Any]:
    """FLOPs of two structures of a model and the share that the second saves, as report.json has them.

    `exported` is the second's cost in its graph; first_token, one_query: as `count` takes them. A decoder reads all.
    """
    first_token = first_token and not architectures.get(config.model_type).decoder
    before, after = (
        count(config, structure.head_counts, structure.neuron_counts, length) for structure in (dense, final)
    )
    exported = count(
        config, final.head_counts, final.neuron_counts, length, first_token=first_token, one_query=one_query
    )
    return {
        "dense": before,
        "final": after,
        "saved": 1 - after / before,
        "exported": exported,
        "exported_saved": 1 - exported / before,
        "first_token": first_token,
        "sequence_length": length,
    }


def count(
    config: PretrainedConfig,
    heads: list[int],
    neurons: list[int],
    length: int,
    *,
    first_token: bool = False,
    one_query: bool = True,
) -> int:
    """FLOPs (two a multiply-add) of one sequence of `length` tokens, embeddings' look-ups excluded.

    Of a decoder those of its blocks: how much of the vocabulary's product runs is up to who calls it.

    heads, neurons: how many of them each layer of the config's model keeps. first_token: as exported, with the last
    layer computed for the token alone that the head reads. one_query: whether its attention is then that of one query,
    without keys and values; not where it is exported as several nodes, as a family's is that has no fusion.
    """
    found = _pass(_Shape(config.to_json_string(), config), tuple(heads), tuple(neurons), length)
    if not first_token:
        return found.whole
    one_row = [found.last[place] for place in ("attention_output", "ffn_in", "ffn_out")]
    if not (one_query and found.fuses_attention):
        return found.whole - sum(one_row) * (length - 1) // length
    # The weights of keys and values meet a row, too: the query and the answer. What mixes is as wide as the model then.
    one_row += [found.last[place] for place in ("query", "key", "value")]
    mixing = found.last["mixing"] // length * (config.hidden_size // found.head_size)
    return found.whole - sum(one_row) * (length - 1) // length - found.last["mixing"] + mixing


@dataclass(frozen=True)
class _Shape:
    """A config, equal to those that say the same."""

    text: str
    config: PretrainedConfig = field(compare=False)


@dataclass(frozen=True)
class _Pass:
    """FLOPs of a forward pass, and by place those of its last layer."""

    whole: int
    last: dict[str, int]
    head_size: int
    fuses_attention: bool


@lru_cache(maxsize=128)
def _pass(shape: _Shape, heads: tuple[int, ...], neurons: tuple[int, ...], length: int) -> _Pass:
    config = shape.config
    decoder = architectures.get(config.model_type).decoder
    # Rotary positions ask for autocast, which knows no meta device; DeBERTa's scripted functions know no fake tensors.
    with FakeTensorMode() if decoder else torch.device("meta"), torch.no_grad():
        # Eager attention is products that the counter sees; fused kernels differ between devices.
        model = architectures.from_config(config, attn_implementation="eager")
        # The counter hooks what needs a gradient, and fails on views made without.
        model.eval().requires_grad_(False)
        architectures.resize(model, [*heads], [*neurons])
        ids = torch.ones((1, length), dtype=torch.int64)
        with FlopCounterMode(display=False) as counter, _Yes():
            counted = model.base_model if decoder else model
            counted(input_ids=ids, attention_mask=torch.ones_like(ids))
    layer = architectures.layers(model)[-1]
    last = {} if decoder else _by_place(layer, len(heads) - 1, counter)
    return _Pass(int(counter.get_total_flops()), last, layer.head_size, layer.architecture.fuses_attention)


def _by_place(layer: Layer, index: int, counter: FlopCounterMode) -> dict[str, int]:
    """FLOPs of a layer's Linears, and under "mixing" of the attention's products of queries, keys and values."""
    modules = {name.partition(".")[2]: sum(kinds.values()) for name, kinds in counter.get_flop_counts().items()}
    table = layer.architecture
    path = f"{table.layers}.{index}"
    found: dict[str, int] = {place: modules[f"{path}.{table.linears[place]}"] for place in layer.places}
    inside = (place for place in layer.places if table.linears[place].startswith(f"{table.attention}."))
    return {**found, "mixing": modules[f"{path}.{table.attention}"] - sum(found[place] for place in inside)}


class _Yes(TorchDispatchMode):
    """Answers what is asked of a tensor without storage: transformers 5 wants to know whether the mask is all ones."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return True
        return func(*args, **(kwargs or {}))
