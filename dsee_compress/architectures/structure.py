"""What the rest of the program needs to know about a model family, and the registry of families."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto import modeling_auto

from ..configs import Role
from ..errors import UserError
from ..tasks import HeadKind
from . import packed
from .packed import set_submodule

Place = Role | Literal["position_key", "position_query", "position_bias"]
"""What a Linear of a layer is for. Those with a role can carry an update; the others project relative positions, where
those do not share the weights of query and key, or add to each head's scores by relative position."""

UNITS: tuple[tuple[Place, Literal["heads", "neurons"], int], ...] = (
    ("query", "heads", 0),
    ("key", "heads", 0),
    ("value", "heads", 0),
    ("position_key", "heads", 0),
    ("position_query", "heads", 0),
    ("position_bias", "heads", 1),
    ("attention_output", "heads", 1),
    ("ffn_in", "neurons", 0),
    ("ffn_gate", "neurons", 0),
    ("ffn_out", "neurons", 1),
)
"""What a head or a neuron owns: rows (axis 0, with their biases) of one weight, columns (axis 1) of another.

Where several query heads share a key and a value head, a head is that group: it comes and goes as one."""


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
    """Path of the module that does the attention."""
    heads: dict[HeadKind, tuple[str, ...]]
    """Each task head that the family can have, and the paths in the model of its modules, which are trained in full."""
    head_count: str | None = None
    """Its attribute with the number of heads, set after a removal, if it does not read that from its Linears."""
    head_width: str | None = None
    """Its attribute with the number of heads times the head size, likewise."""
    head_norms: dict[Place, str] = field(default_factory=dict)
    """Path of what normalises each head of a Linear's output, by its place, where a decoder's attention has that."""
    decoder: bool = False
    """Whether it is a language model that generates from cached keys and values, and not a classifier."""
    one_query: bool = True
    """Whether an encoder's last attention can be that of one query without keys and values (see `passes.one_query`):
    its scores are products of what tokens say, and of nothing that tells their places."""
    activation: str = "hidden_act"
    """Attribute of the config that names the FFN's activation."""
    activations: tuple[str, ...] = ("gelu",)
    """Those of its values that are exported as they should be."""
    token_types: bool = True
    """Whether the model takes the type of each token, which tells the texts of a pair apart."""
    positions_after_padding: bool = False
    """Whether positions are counted from `config.pad_token_id` on: those up to it no token can take."""
    padding: int | None = None
    """The padding id that they are counted from whatever the config says, if the family has one."""
    packed: dict[str, tuple[Place, ...]] = field(default_factory=dict)
    """Path of each Linear that holds the rows of several places one after the other; a model is taken apart there."""
    take_apart: Callable[[PreTrainedModel], None] | None = None
    """Gives each place of every layer a Linear of its own in a fresh model, where the family has none."""

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles that its layers have: all, but for the gate of an FFN without one."""
        return tuple(role for role in get_args(Role) if role in self.linears)


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
        return [
            place
            for place, path in self.architecture.linears.items()
            if path in names or place in self.architecture.roles
        ]

    @property
    def products(self) -> list[Place]:
        """Those of the places whose weights multiply tokens: a bias by position is looked up."""
        return [place for place in self.places if place != "position_bias"]

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
        """Attention heads that the layer has; where queries share keys and values, the heads of those."""
        return rows(self.linear("key")) // self.head_size

    @property
    def neurons(self) -> int:
        """FFN neurons that the layer has."""
        return rows(self.linear("ffn_in"))

    def width(self, place: Place) -> int:
        """Rows or columns that each head or neuron owns in the Linear at `place`."""
        unit, axis = next((unit, axis) for named, unit, axis in UNITS if named == place)
        return int(self.linear(place).weight.shape[axis]) // (self.heads if unit == "heads" else self.neurons)

    def set_heads(self, count: int) -> None:
        """Tell the attention module how many heads its Linears hold."""
        attention = self.module.get_submodule(self.architecture.attention)
        for name, value in (
            (self.architecture.head_count, count),
            (self.architecture.head_width, count * self.head_size),
        ):
            if name is not None:
                setattr(attention, name, value)


def rows(linear: nn.Module) -> int:
    """Output features of a Linear."""
    return int(linear.weight.shape[0])


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
    head_size = getattr(model.config, "head_dim", None) or model.config.hidden_size // model.config.num_attention_heads
    return [Layer(module, architecture, head_size) for module in model.get_submodule(architecture.layers)]


_CLASSES: dict[HeadKind, tuple[Any, Mapping[str, str]]] = {
    "sequence": (AutoModelForSequenceClassification, modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES),
    "token": (AutoModelForTokenClassification, modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES),
    "language": (AutoModelForCausalLM, modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
}
"""The class of transformers that builds and loads models with a head, and the name of each family's own."""


def give_head(config: PretrainedConfig, head: HeadKind) -> None:
    """Have `config` name the class with that head, by which models are built and loaded from now on."""
    config.architectures = [_CLASSES[head][1][config.model_type]]


def head_of(config: PretrainedConfig) -> HeadKind:
    """The head that `config` names; the family's first, if it names none."""
    kinds = get(config.model_type).heads
    named = config.architectures or []
    return next((kind for kind in kinds if _CLASSES[kind][1][config.model_type] in named), next(iter(kinds)))


def auto_class(config: PretrainedConfig) -> Any:
    """The class of transformers that builds and loads models of `config`."""
    return _CLASSES[head_of(config)][0]


def task_head(config: PretrainedConfig) -> tuple[str, ...]:
    """Paths of the modules of the head that `config` names."""
    return get(config.model_type).heads[head_of(config)]


def from_config(config: PretrainedConfig, **options: Any) -> PreTrainedModel:
    """A model of this config with fresh weights and a Linear at every place; options as transformers' `from_config`."""
    # Options are written into the config, which may be that of a live model.
    model: PreTrainedModel = auto_class(config).from_config(copy.deepcopy(config), trust_remote_code=False, **options)
    return take_apart(model)


def no_init_weights() -> AbstractContextManager[None]:
    """While it lasts, the weights of new models are left as they come."""
    try:
        from transformers import initialization
    except ImportError:  # before transformers 5
        from transformers import modeling_utils as initialization
    found: AbstractContextManager[None] = initialization.no_init_weights()
    return found


def blank(config: PretrainedConfig, **options: Any) -> PreTrainedModel:
    """As `from_config`, on tensors without storage."""
    with torch.device("meta"):
        return from_config(config, **options)


def take_apart(model: PreTrainedModel) -> PreTrainedModel:
    """Give every place of a fresh `model` a Linear of its own, in place."""
    change = of(model).take_apart
    if change is not None:
        change(model)
    for layer in layers(model):
        for path, places in of(model).packed.items():
            packed.split(layer.module, path, places)
    return model


def longest_input(config: PretrainedConfig) -> int:
    """Tokens that a model with this config reads at most."""
    reserved = config.pad_token_id + 1 if get(config.model_type).positions_after_padding else 0
    return int(config.max_position_embeddings) - reserved


def pools(config: PretrainedConfig) -> bool:
    """Whether a sequence's head reads the mean of all tokens, and not the first."""
    return bool(getattr(config, "classifier_pooling", None) == "mean")


def window(config: PretrainedConfig) -> int | None:
    """How many tokens on either side an encoder's layers of local attention see, if it has such layers."""
    both: int | None = getattr(config, "local_attention", None)
    return both and both // 2


def require_length(config: PretrainedConfig, option: str, length: int) -> None:
    """Raise UserError, naming the option, if `length` is more tokens than the model reads."""
    longest = longest_input(config)
    if length > longest:
        raise UserError(f"{option} {length} is more than the {longest} tokens that the model reads")


def named_linears(model: PreTrainedModel) -> Iterator[tuple[int, Place, nn.Module]]:
    """Every Linear of every layer that is a product, as (layer, place, module)."""
    for index, layer in enumerate(layers(model)):
        for place in layer.products:
            yield index, place, layer.linear(place)


def resize(model: PreTrainedModel, heads: list[int], neurons: list[int]) -> None:
    """Give each layer Linears for its own number of heads and neurons, with weights left uninitialised.

    `heads[i]` and `neurons[i]` are the counts of layer i. Raises ValueError where a layer would be left
    without a head or a neuron.
    """
    for layer, head_count, neuron_count in zip(layers(model), heads, neurons, strict=True):
        if head_count < 1 or neuron_count < 1:
            raise ValueError("every layer keeps at least one head and one neuron")
        counts = {"heads": head_count, "neurons": neuron_count}
        widths = {place: layer.width(place) * counts[unit] for place, unit, _ in layer.units}
        for place, _, axis in layer.units:
            old = layer.linear(place)
            shape = list(old.weight.shape)
            if shape[axis] != widths[place]:
                shape[axis] = widths[place]
                like = {"device": old.weight.device, "dtype": old.weight.dtype}
                new = nn.Linear(shape[1], shape[0], bias=old.bias is not None, **like)
                layer.replace(place, new)
        layer.set_heads(head_count)
