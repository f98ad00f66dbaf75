"""Put DSEE updates into a model, save and load them, count them, merge them."""

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from .. import architectures, models
from ..configs import FinetuneConfig, Role, UpdateConfig
from ..errors import GateError, UserError, first_line
from ..store import folders
from ..store.manifest import FinetuneManifest, Manifest
from ..weights import load_files, save_tensors, weights_of
from .decomposition import support
from .layer import DseeLinear


@dataclass(frozen=True)
class Shape:
    """Rank r, sparse entries N and alpha of one update."""

    rank: int
    sparse: int
    alpha: float


Place = Callable[[int, Tensor, Shape], tuple[Tensor, Tensor]]
"""From a layer's index, a weight and its update's shape to rows and columns of its Ω."""
_Value = TypeVar("_Value", int, float)


def shapes(config: UpdateConfig, model: PretrainedConfig) -> dict[tuple[int, Role], Shape]:
    """The updates of a model, told by its config, by layer and role; Linears with r = 0 and N = 0 have none.

    Raises UserError for a target that the family has not or a pattern that matches no target, or if no update is left.
    """
    roles = architectures.get(model.model_type).roles
    if absent := next((role for role in config.targets if role not in roles), None):
        raise UserError(f"targets: a {model.model_type} model has no {absent}; it has {', '.join(roles)}")
    places = [(index, role) for index in range(model.num_hidden_layers) for role in config.targets]
    rank = _by_pattern("rank_pattern", config.rank_pattern, config.rank, places)
    sparse = _by_pattern("sparse_pattern", config.sparse_pattern, config.sparse, places)
    alpha = _by_pattern("alpha_pattern", config.alpha_pattern, config.alpha, places)
    found = {place: Shape(rank[place], sparse[place], alpha[place]) for place in places if rank[place] or sparse[place]}
    if not found:
        raise UserError("rank and sparse are 0 for every target, so nothing would be trained but the head")
    return found


def _by_pattern(
    option: str, patterns: dict[str, _Value] | None, default: _Value, places: list[tuple[int, Role]]
) -> dict[tuple[int, Role], _Value]:
    values = dict.fromkeys(places, default)
    for pattern, value in reversed((patterns or {}).items()):
        matched = [(index, role) for index, role in places if matches(pattern, f"{index}.{role}")]
        if not matched:
            raise UserError(f"{option}: {pattern!r} matches no target; they are called 0.{places[0][1]} and so on")
        values.update(dict.fromkeys(matched, value))
    return values


def matches(pattern: str, name: str) -> bool:
    """Whether a regular expression matches the end of a dotted name, from a dot or the start on (as in PEFT)."""
    return re.fullmatch(rf"(.*\.)?({pattern})", name) is not None


def insert(model: PreTrainedModel, config: FinetuneConfig) -> None:
    """Replace the Linears that `config` gives an update by DseeLinear; leave only updates and task head trainable.

    Ω is decomposed from each pretrained weight, at the update's rank. Raises UserError for a family that is not
    known, a target that it has not or a pattern that matches nothing, and ValueError if rank or N do not fit a matrix.
    """
    _insert(
        model,
        config,
        config.seed,
        lambda index, weight, shape: support(
            weight, shape.rank, shape.sparse, decomposition=config.decomposition, seed=config.seed + index
        ),
    )
    if config.slimming:
        insert_gains(model)


def insert_blank(model: PreTrainedModel, config: UpdateConfig) -> None:
    """As `insert`, for updates whose tensors are loaded next: with an Ω that is yet to be told."""
    _insert(model, config, 0, lambda index, weight, shape: (torch.zeros(shape.sparse, dtype=torch.int64),) * 2)


def _insert(model: PreTrainedModel, config: UpdateConfig, seed: int, place: Place) -> None:
    generator = torch.Generator().manual_seed(seed)
    layers = architectures.layers(model)
    for (index, role), shape in shapes(config, model.config).items():
        linear = layers[index].linear(role)
        assert isinstance(linear, nn.Linear)
        rows, columns = place(index, linear.weight, shape)
        layers[index].replace(role, DseeLinear(linear, shape.rank, shape.alpha, rows, columns, generator))
    freeze(model)


def insert_gains(model: PreTrainedModel) -> None:
    """Give every head and every neuron a trained coefficient of 1 on its output, for step I to shrink."""
    none = torch.zeros(0, dtype=torch.int64)
    for layer in architectures.layers(model):
        units: tuple[tuple[Role, int], ...] = (("attention_output", layer.heads), ("ffn_out", layer.neurons))
        for role, count in units:
            linear = layer.linear(role)
            if isinstance(linear, nn.Linear):
                linear = DseeLinear(linear, 0, 1.0, none, none, torch.Generator())
                layer.replace(role, linear)
            assert isinstance(linear, DseeLinear)
            linear.gain = nn.Parameter(torch.ones(count, device=linear.weight.device))
    freeze(model)


def fold_gains(model: PreTrainedModel) -> None:
    """Multiply all coefficients into the weights; what has no update left becomes a plain Linear again."""
    layers = architectures.layers(model)
    for (index, role), linear in updates(model).items():
        linear.fold_gain()
        if not linear.carries_update:
            layers[index].replace(role, linear.merged())


def freeze(model: PreTrainedModel) -> None:
    """Leave only the updates and the task head trainable."""
    model.requires_grad_(False)
    for layer in updates(model).values():
        for parameter in layer.trained():
            parameter.requires_grad_(True)
    for parameter in task_head(model).values():
        parameter.requires_grad_(True)


def updates(model: PreTrainedModel) -> dict[tuple[int, architectures.Place], DseeLinear]:
    """The Linears that carry an update, by layer and place."""
    return {
        (index, role): linear
        for index, role, linear in architectures.named_linears(model)
        if isinstance(linear, DseeLinear)
    }


def task_head(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The parameters of the task head, by name."""
    prefixes = tuple(f"{path}." for path in architectures.task_head(model.config))
    return {name: parameter for name, parameter in model.named_parameters() if name.startswith(prefixes)}


def count(model: PreTrainedModel) -> dict[str, Any]:
    """Parameters that are trained, and their share of the base model (the base without the task head)."""
    update = sum(parameter.numel() for layer in updates(model).values() for parameter in layer.trained())
    head = sum(parameter.numel() for parameter in task_head(model).values())
    total = sum(parameter.numel() for parameter in model.parameters())
    base = total - update - head
    return {
        "trainable_parameters": update,
        "trainable_fraction": update / base,
        "task_head_parameters": head,
        "base_parameters": base,
    }


def merge(model: PreTrainedModel) -> None:
    """Replace every DseeLinear by a plain Linear with the effective weight, in place and in fp32.

    One after the other, and none is kept. Raises GateError if an effective weight is not finite.
    """
    layers, left = architectures.layers(model), updates(model)
    for index, role in [*left]:
        try:
            layers[index].replace(role, left.pop((index, role)).merged())
        except ValueError as error:
            raise GateError(f"merge: {error} in {role}; train with a smaller learning rate") from error


def merged_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of `model` with every update merged, nothing in it trainable; `model` stays as it is."""
    plain = copy.deepcopy(model)
    merge(plain)
    return plain.requires_grad_(False)


def adapter_tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """What training changed: U, V, S2 with Ω, the coefficients of slimming, and the task head."""
    own = ("up", "down", "values", "rows", "columns", "gain")
    head = task_head(model)
    return {
        name: tensor for name, tensor in weights_of(model).items() if name in head or name.rpartition(".")[2] in own
    }


def save(model: PreTrainedModel, folder: Path) -> None:
    """Write `adapter.safetensors` (what was trained) and `base.safetensors` (what it stands on) into `folder`."""
    adapter = adapter_tensors(model)
    base = {name: tensor for name, tensor in weights_of(model).items() if name not in adapter}
    save_tensors(adapter, folder / "adapter.safetensors")
    save_tensors(base, folder / "base.safetensors")
    model.config.save_pretrained(folder)


def update_of(manifest: Manifest) -> UpdateConfig:
    """What the updates of a `finetune` folder look like."""
    return UpdateConfig.parse(
        {name: value for name, value in manifest.config.items() if name in UpdateConfig.model_fields}
    )


def load(folder: Path) -> PreTrainedModel:
    """The model of a `finetune` folder with its updates in place, not merged, in eval mode."""
    manifest = FinetuneManifest.read(folder)
    model = models.build(folder)
    try:
        insert_blank(model, update_of(manifest))
    except (UserError, ValueError) as error:
        raise UserError(
            f"{folder}: {folders.MANIFEST} describes an update that does not fit the model ({first_line(error)}); "
            "write the folder again"
        ) from error
    if manifest.config.get("slimming"):
        insert_gains(model)
    load_files(model, [folder / "base.safetensors", folder / "adapter.safetensors"], folder)
    return model.eval()


def load_merged(folder: Path) -> PreTrainedModel:
    """The model of any stage folder with weights, as a plain PreTrainedModel in eval mode."""
    if Manifest.read(folder, "finetune", "prune").stage == "prune":
        return models.load(folder)
    model = load(folder)
    merge(model)
    return model.requires_grad_(True)
