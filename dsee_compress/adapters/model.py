"""Put DSEE updates into a model, save and load them, count them, merge them."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .. import architectures, checkpoint
from ..configs import FinetuneConfig
from ..errors import GateError
from .decomposition import support
from .layer import DseeLinear

Place = Callable[[int, Tensor], tuple[Tensor, Tensor]]
"""From a layer's index and a weight to rows and columns of its Ω."""


def insert(model: PreTrainedModel, config: FinetuneConfig) -> None:
    """Replace the Linears that `config.targets` names by DseeLinear; leave only updates and task head trainable.

    Ω is decomposed from each pretrained weight, at the update's rank. Raises UserError for a family that is not
    known, and ValueError if rank or N do not fit a matrix.
    """
    _insert(
        model,
        config,
        lambda index, weight: support(weight, config.rank, config.sparse, seed=config.seed + index),
    )


def _insert(model: PreTrainedModel, config: FinetuneConfig, place: Place) -> None:
    generator = torch.Generator().manual_seed(config.seed)
    for index, layer in enumerate(architectures.layers(model)):
        for role in config.targets:
            linear = layer.linear(role)
            assert isinstance(linear, nn.Linear)
            rows, columns = place(index, linear.weight)
            layer.replace(role, DseeLinear(linear, config.rank, config.alpha, rows, columns, generator))
    freeze(model)


def freeze(model: PreTrainedModel) -> None:
    """Leave only the updates and the task head trainable."""
    model.requires_grad_(False)
    for layer in updates(model).values():
        for parameter in (layer.up, layer.down, layer.values):
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
    prefixes = tuple(f"{path}." for path in architectures.of(model).task_head)
    return {name: parameter for name, parameter in model.named_parameters() if name.startswith(prefixes)}


def count(model: PreTrainedModel) -> dict[str, int | float]:
    """Parameters that are trained, and their share of the base model (the base without the task head)."""
    update = sum(layer.up.numel() + layer.down.numel() + layer.values.numel() for layer in updates(model).values())
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

    Raises GateError if an effective weight is not finite.
    """
    layers = architectures.layers(model)
    for (index, role), linear in updates(model).items():
        try:
            layers[index].replace(role, linear.merged())
        except ValueError as error:
            raise GateError(f"merge: {error} in {role}; train with a smaller learning rate") from error


def adapter_tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """What training changed: U, V, S2 with Ω, and the task head."""
    own = ("up", "down", "values", "rows", "columns")
    head = task_head(model)
    return {
        name: tensor for name, tensor in model.state_dict().items() if name in head or name.rpartition(".")[2] in own
    }


def save(model: PreTrainedModel, folder: Path) -> None:
    """Write `adapter.safetensors` (what was trained) and `base.safetensors` (what it stands on) into `folder`."""
    adapter = adapter_tensors(model)
    base = {name: tensor for name, tensor in model.state_dict().items() if name not in adapter}
    checkpoint.save_tensors(adapter, folder / "adapter.safetensors")
    checkpoint.save_tensors(base, folder / "base.safetensors")
    model.config.save_pretrained(folder)


def load(folder: Path) -> PreTrainedModel:
    """The model of a `finetune` folder with its updates in place, not merged, in eval mode."""
    manifest = checkpoint.read(folder, "finetune")
    config = FinetuneConfig.parse(manifest.config, str(folder))
    model = checkpoint.build(folder)
    unknown = torch.zeros(config.sparse, dtype=torch.int64)
    _insert(model, config, lambda index, weight: (unknown, unknown))
    tensors = {
        **checkpoint.load_tensors(folder / "base.safetensors"),
        **checkpoint.load_tensors(folder / "adapter.safetensors"),
    }
    checkpoint.load_weights(model, tensors, folder)
    return model.eval()


def load_merged(folder: Path) -> PreTrainedModel:
    """The model of any stage folder with weights, as a plain PreTrainedModel in eval mode."""
    if checkpoint.read(folder, "finetune", "prune").stage == "prune":
        return checkpoint.load(folder)
    model = load(folder)
    merge(model)
    return model
