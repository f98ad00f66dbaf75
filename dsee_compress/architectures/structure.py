"""What the rest of the program needs to know about a model family, and the registry of families."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

from ..configs import Role
from ..errors import UserError

Place = Role | Literal["position_key", "position_query"]
"""What a Linear of a layer is for. Every layer has the roles; the others project relative positions where they do
not share the weights of query and key."""

UNITS: tuple[tuple[Place, Literal["heads", "neurons"], int], ...] = (
    ("query", "heads", 0),
    ("key", "heads", 0),
    ("value", "heads", 0),
    ("position_key", "heads", 0),
    ("position_query", "heads", 0),
    ("attention_output", "heads", 1),
    ("ffn_in", "neurons", 0),
    ("ffn_out", "neurons", 1),
)
"""What a head or a neuron owns: rows (axis 0, with their biases) of one weight, columns (axis 1) of another."""


@dataclass(frozen=True)
class Architecture:
    """Where a family keeps its attention and FFN Linears. Paths are relative to a layer unless said otherwise."""

    model_type: str
    """`config.model_type` of the family."""
    layers: str
    """Path of the list of layers in the model."""
    linears: dict[Place, str]
    """Path of each Linear, by its place."""
    attention: str
    """Path of the module that holds the head count."""
    head_count: str
    """Its attribute with the number of heads; set after a removal."""
    head_width: str
    """Its attribute with the number of heads times the head size; set after a removal."""
    task_head: tuple[str, ...]
    """Paths in the model of the modules trained in full: the task head."""
    fusion: str
    """`model_type` under which onnxruntime.transformers.optimizer knows the graph."""
    fuses_attention: bool = True
    """Whether that optimizer makes one node of a layer's attention."""
    activation: str = "hidden_act"
    """Attribute of the config that names the FFN's activation."""
    reserved_positions: int = 0
    """Position embeddings that no token can take."""


@dataclass(frozen=True)
class Layer:
    """One layer of a model, read through its architecture's table."""

    module: nn.Module
    architecture: Architecture
    head_size: int

    @property
    def places(self) -> list[Place]:
        """The places of the family that the layer has: its config may leave out those of positions."""
        names = {name for name, _ in self.module.named_modules()}
        return [place for place, path in self.architecture.linears.items() if path in names or place in get_args(Role)]

    @property
    def units(self) -> list[tuple[Place, Literal["heads", "neurons"], int]]:
        """UNITS of the Linears that the layer has."""
        places = self.places
        return [unit for unit in UNITS if unit[0] in places]

    def linear(self, place: Place) -> nn.Module:
        """The module that stands at `place`."""
        return self.module.get_submodule(self.architecture.linears[place])

    def replace(self, place: Place, linear: nn.Module) -> None:
        """Put `linear` at `place`."""
        set_submodule(self.module, self.architecture.linears[place], linear)

    @property
    def heads(self) -> int:
        """Attention heads that the layer has."""
        return rows(self.linear("query")) // self.head_size

    @property
    def neurons(self) -> int:
        """FFN neurons that the layer has."""
        return rows(self.linear("ffn_in"))

    def set_heads(self, count: int) -> None:
        """Tell the attention module how many heads its Linears hold."""
        attention = self.module.get_submodule(self.architecture.attention)
        setattr(attention, self.architecture.head_count, count)
        setattr(attention, self.architecture.head_width, count * self.head_size)


def rows(linear: nn.Module) -> int:
    """Output features of a Linear."""
    return int(linear.weight.shape[0])


def set_submodule(module: nn.Module, path: str, new: nn.Module) -> None:
    """Put `new` where `path` points in `module`."""
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, new)


_REGISTRY: dict[str, Architecture] = {}


def register(architecture: Architecture) -> Architecture:
    """Make a family known under its model type."""
    _REGISTRY[architecture.model_type] = architecture
    return architecture


def known() -> list[str]:
    """The model types that can be compressed."""
    return sorted(_REGISTRY)


def get(model_type: str) -> Architecture:
    """The table of `model_type`; UserError with the list of those that are known."""
    if model_type not in _REGISTRY:
        raise UserError(f"architecture {model_type!r} is not supported; supported are: {', '.join(known())}")
    return _REGISTRY[model_type]


def of(model: PreTrainedModel) -> Architecture:
    """The table of the family that `model` belongs to."""
    return get(model.config.model_type)


def layers(model: PreTrainedModel) -> list[Layer]:
    """The layers of `model`, first to last."""
    architecture = of(model)
    head_size = model.config.hidden_size // model.config.num_attention_heads
    return [Layer(module, architecture, head_size) for module in model.get_submodule(architecture.layers)]


def blank(config: PretrainedConfig, **options: Any) -> PreTrainedModel:
    """A classifier of this config on tensors without storage; options as `from_config` takes them."""
    with torch.device("meta"):
        # Options are written into the config, which may be that of a live model.
        model: PreTrainedModel = AutoModelForSequenceClassification.from_config(copy.deepcopy(config), **options)
    return model


def longest_input(config: PretrainedConfig) -> int:
    """Tokens that a model with this config reads at most."""
    return int(config.max_position_embeddings) - get(config.model_type).reserved_positions


def require_length(config: PretrainedConfig, option: str, length: int) -> None:
    """Raise UserError, naming the option, if `length` is more tokens than the model reads."""
    longest = longest_input(config)
    if length > longest:
        raise UserError(f"{option} {length} is more than the {longest} tokens that the model reads")


def named_linears(model: PreTrainedModel) -> Iterator[tuple[int, Place, nn.Module]]:
    """Every Linear of every layer, as (layer, place, module)."""
    for index, layer in enumerate(layers(model)):
        for place in layer.places:
            yield index, place, layer.linear(place)


def resize(model: PreTrainedModel, heads: list[int], neurons: list[int]) -> None:
    """Give each layer Linears for its own number of heads and neurons, with weights left uninitialised.

    `heads[i]` and `neurons[i]` are the counts of layer i. Raises ValueError where a layer would be left
    without a head or a neuron.
    """
    for layer, head_count, neuron_count in zip(layers(model), heads, neurons, strict=True):
        if head_count < 1 or neuron_count < 1:
            raise ValueError("every layer keeps at least one head and one neuron")
        widths = {"heads": head_count * layer.head_size, "neurons": neuron_count}
        for place, unit, axis in layer.units:
            old = layer.linear(place)
            shape = list(old.weight.shape)
            if shape[axis] != widths[unit]:
                shape[axis] = widths[unit]
                like = {"device": old.weight.device, "dtype": old.weight.dtype}
                new = nn.Linear(shape[1], shape[0], bias=old.bias is not None, **like)
                layer.replace(place, new)
        layer.set_heads(head_count)
