"""FLOPs of a forward pass, counted by torch on tensors without storage."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Literal

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import PretrainedConfig, PreTrainedModel

from .. import architectures
from ..architectures import UNITS, Layer
from ..store.stage_metrics import FlopsMetrics
from ..store.structure import Structure
from ..tasks import Reads

_Unit = Literal["heads", "neurons"]
_MIXING = "mixing"
"""Beside a layer's places: the attention's products of queries, keys and values."""
_UNIT_OF: dict[str, _Unit] = {_MIXING: "heads", **{place: unit for place, unit, _ in UNITS}}


@dataclass(frozen=True)
class Flops:
    """Two a multiply-add, of one sequence; without embeddings' look-ups and the product that scores a vocabulary.

    How often the latter runs is up to who calls the model.
    """

    config: PretrainedConfig
    """Of the whole model, of which structures are parts."""
    length: int
    """Tokens of the sequence."""
    reads: Reads = "all tokens"
    """Of "first token", the last layer is computed for that alone, as graphs do it where the head reads no other."""
    one_query: bool = True
    """Whether its attention is then that of one query, without keys and values; not in a
    family where that cannot be (`Architecture.one_query`)."""

    unit: ClassVar[str] = "FLOPs"

    def of(self, structure: Structure) -> int:
        """As `Cost.of`."""
        model = _counted(_Named(self.config.to_json_string(), self.config), self.length)
        layers = [
            {part: line.at({"heads": heads, "neurons": neurons}[_UNIT_OF[part]]) for part, line in lines.items()}
            for lines, heads, neurons in zip(model.layers, structure.head_counts, structure.neuron_counts, strict=True)
        ]
        everything = model.elsewhere + sum(sum(layer.values()) for layer in layers)
        return everything if self.reads == "all tokens" else everything - self._spared(layers[-1], model.head_size)

    def _spared(self, last: Mapping[str, int], head_size: int) -> int:
        """What a last layer with these FLOPs, by part, saves where it is computed for the first token alone."""
        one_row, mixing = ["attention_output", "ffn_in", "ffn_gate", "ffn_out"], 0
        if self.one_query and architectures.get(self.config.model_type).one_query:
            # The weights of keys and values meet a row, too: the query and the answer. What mixes is then as wide as
            # the model.
            one_row += ["query", "key", "value"]
            mixing = last[_MIXING] - last[_MIXING] // self.length * (self.config.hidden_size // head_size)
        return sum(last.get(part, 0) for part in one_row) * (self.length - 1) // self.length + mixing


def compare(
    config: PretrainedConfig,
    dense: Structure,
    final: Structure,
    length: int,
    *,
    reads: Reads,
    one_query: bool = True,
) -> FlopsMetrics:
    """FLOPs of two structures of a model and the share that the second saves.

    `exported` is the second's cost in its graph; reads, one_query: as of `Flops`.
    """
    whole = Flops(config, length)
    before, after = whole.of(dense), whole.of(final)
    exported = Flops(config, length, reads, one_query).of(final)
    return FlopsMetrics(
        dense=before,
        final=after,
        saved=1 - after / before,
        exported=exported,
        exported_saved=1 - exported / before,
        first_token=reads == "first token",
        sequence_length=length,
    )


@dataclass(frozen=True)
class _Named:
    """A config, equal to those that say the same."""

    text: str
    config: PretrainedConfig = field(compare=False)


@dataclass(frozen=True)
class _Line:
    """FLOPs that grow with the units of a layer."""

    one: int
    """Of the first unit."""
    more: int
    """Of each further one."""

    def at(self, units: int) -> int:
        """Of so many units."""
        return self.one + self.more * (units - 1)


@dataclass(frozen=True)
class _Counted:
    layers: list[dict[str, _Line]]
    """By part of each layer: its places, and `_MIXING`."""
    elsewhere: int
    head_size: int


@lru_cache(maxsize=128)
def _counted(named: _Named, length: int) -> _Counted:
    """What each part of a config's model costs: two passes tell of every structure, as all parts grow evenly."""
    layers = architectures.layers(architectures.blank(named.config))
    most = {"heads": [layer.heads for layer in layers], "neurons": [layer.neurons for layer in layers]}
    whole, outside = _pass(named.config, most["heads"], most["neurons"], length)
    least, _ = _pass(named.config, [1] * len(layers), [1] * len(layers), length)

    def line(index: int, part: str) -> _Line:
        one, further = least[index][part], most[_UNIT_OF[part]][index] - 1
        return _Line(one, (whole[index][part] - one) // further if further else 0)

    lines = [{part: line(index, part) for part in parts} for index, parts in enumerate(whole)]
    return _Counted(lines, outside, layers[-1].head_size)


def _pass(
    config: PretrainedConfig, heads: list[int], neurons: list[int], length: int
) -> tuple[list[dict[str, int]], int]:
    """FLOPs of each layer's parts in a model with so many heads and neurons a layer, and what is left of the sum."""
    # DeBERTa's scripted functions make tensors of their own, and ModernBERT's weights are looked at as they are drawn.
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), architectures.no_init_weights():
        # Eager attention is products that the counter sees; fused kernels differ between devices.
        model = architectures.from_config(config, attn_implementation="eager")
        # The counter hooks what needs a gradient, and fails on views made without.
        model.eval().requires_grad_(False)
        architectures.resize(model, heads, neurons)
        ids = torch.ones((1, length), dtype=torch.int64)
        with FlopCounterMode(display=False) as counter, _Yes():
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    modules = {name.partition(".")[2]: sum(kinds.values()) for name, kinds in counter.get_flop_counts().items()}
    parts = [_parts(layer, index, modules) for index, layer in enumerate(architectures.layers(model))]
    scoring = sum(modules[name] for name in _scores_vocabulary(model))
    return parts, int(counter.get_total_flops()) - scoring - sum(sum(layer.values()) for layer in parts)


def _scores_vocabulary(model: PreTrainedModel) -> list[str]:
    """The path of the module that does, if there is one."""
    head = model.get_output_embeddings()
    return [name for name, module in model.named_modules() if module is head]


def _parts(layer: Layer, index: int, modules: dict[str, int]) -> dict[str, int]:
    """FLOPs of a layer's Linears, and under `_MIXING` those of its attention beside them."""
    table = layer.architecture
    path = f"{table.layers}.{index}"
    found: dict[str, int] = {place: modules[f"{path}.{table.linears[place]}"] for place in layer.products}
    inside = (place for place in layer.products if table.linears[place].startswith(f"{table.attention}."))
    return {**found, _MIXING: modules[f"{path}.{table.attention}"] - sum(found[place] for place in inside)}


class _Yes(TorchDispatchMode):
    """Answers what is asked of a tensor without storage: transformers 5 wants to know whether the mask is all ones."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return True
        return func(*args, **(kwargs or {}))
