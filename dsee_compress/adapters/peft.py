"""LoRA adapters as PEFT saves them, read and written without PEFT: U is `lora_B`, V is `lora_A`, S2 is empty."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor
from transformers import PreTrainedModel

from .. import architectures
from ..architectures import Architecture, of
from ..configs import Role, UpdateConfig
from ..errors import UserError
from ..option_types import pattern_error
from ..store import folders
from ..tasks import HeadKind
from ..weights import load_tensors, load_weights, save_tensors, weights_of
from .model import Shape, insert_blank, matches, shapes, task_head, updates

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_TASK_TYPES: dict[HeadKind, str] = {"sequence": "SEQ_CLS", "token": "TOKEN_CLS"}
"""What PEFT calls a model with such a head."""
_FACTORS = {".lora_A.weight": ".down", ".lora_B.weight": ".up"}
_WITHOUT_EFFECT = {
    *("alpha_pattern", "base_model_name_or_path", "bias", "ensure_weight_tying", "eva_config", "exclude_modules"),
    *("auto_mapping", "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha"),
    *("lora_dropout", "megatron_core", "modules_to_save", "peft_type", "peft_version", "qalora_group_size", "r"),
    *("rank_pattern", "revision", "runtime_config", "target_modules", "task_type", "use_rslora"),
}
"""Keys of a LoRA config that are read here, or that the tensors speak for, or that matter in training alone."""
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` that leave the base weights as they are."""
_Value = TypeVar("_Value", int, float)


@dataclass(frozen=True)
class Lora:
    """A PEFT adapter folder: its config, and its tensors by name, without PEFT's prefix."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]


def read(folder: Path) -> Lora:
    """Read an adapter; UserError if it is missing, damaged, pickled, or more than a low-rank update and a head."""
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{folder} is no PEFT adapter: it has no {CONFIG}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        config.setdefault("lora_alpha", 8)  # PEFT's default
        kind, alphas = config.get("peft_type"), [config["lora_alpha"], *(config.get("alpha_pattern") or {}).values()]
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged; save the adapter again") from error
    if kind != "LORA":
        raise UserError(f"{path} is of type {kind!r}; LORA alone is an update that DSEE knows")
    if config.get("task_type") not in (None, "SEQ_CLS"):
        raise UserError(f"{path} is for the task {config['task_type']!r}; SEQ_CLS alone can be imported")
    if config.get("bias", "none") != "none":
        raise UserError(f"{path} trains biases (bias={config['bias']!r}), which a DSEE update cannot express")
    if config.get("init_lora_weights") not in _PLAIN_STARTS:
        raise UserError(
            f"{path} has init_lora_weights={config['init_lora_weights']!r}, which changes the base weights; "
            "convert it with PEFT's path_initial_model_for_weight_conversion first"
        )
    for key in sorted(config.keys() - _WITHOUT_EFFECT):
        if config[key]:
            raise UserError(f"{path} sets {key}={config[key]!r}, which a DSEE update cannot express")
    for pattern in config.get("alpha_pattern") or {}:
        if wrong := pattern_error(pattern):
            raise UserError(f"{path}, alpha_pattern: {wrong}")
    if not all(isinstance(alpha, int | float) and alpha > 0 for alpha in alphas):
        raise UserError(f"{path} has a lora_alpha that is not above 0")
    if not (folder / WEIGHTS).is_file() and (folder / "adapter_model.bin").is_file():
        raise UserError(f"{folder}/adapter_model.bin is pickled and is not read; save it with safe_serialization=True")
    tensors = load_tensors(folder / WEIGHTS)
    return Lora(folder, config, {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()})


def describe(lora: Lora, architecture: Architecture, layers: int) -> UpdateConfig:
    """The ranks and alphas of an adapter for a model of `layers` layers.

    UserError if it has no update, or one on what is none of the family's Linears.
    """
    places = _places(architecture, layers)
    ranks: dict[tuple[int, Role], int] = {}
    alphas: dict[tuple[int, Role], float] = {}
    for name, tensor in lora.tensors.items():
        path = name.removesuffix(".lora_A.weight")
        if path == name:
            continue
        if path not in places:
            raise UserError(
                f"{lora.folder} has an update on {path!r}, which is none of the Linears of a {architecture.model_type} "
                f"model with {layers} layers: {', '.join(architecture.roles)}"
            )
        rank = tensor.shape[0]
        patterns = lora.config.get("alpha_pattern") or {}
        alpha = next((patterns[pattern] for pattern in patterns if matches(pattern, path)), lora.config["lora_alpha"])
        ranks[places[path]] = rank
        alphas[places[path]] = alpha * rank**0.5 if lora.config.get("use_rslora") else float(alpha)
    if not ranks:
        raise UserError(f"{lora.folder} holds no LoRA update of a Linear")
    targets = [role for role in architecture.roles if any(role == place[1] for place in ranks)]
    everywhere = {(index, role): ranks.get((index, role), 0) for index in range(layers) for role in targets}
    rank, rank_pattern = _patterns(everywhere)
    alpha, alpha_pattern = _patterns(alphas)
    options = {
        "rank": rank,
        "sparse": 0,
        "alpha": alpha,
        "targets": targets,
        "rank_pattern": rank_pattern or None,
        "alpha_pattern": alpha_pattern or None,
    }
    return UpdateConfig.parse(options, str(lora.folder))


def put(lora: Lora, model: PreTrainedModel, update: UpdateConfig) -> list[str]:
    """Insert the adapter, which `update` describes, into `model`; returns the head's tensors that it does not hold.

    UserError if it lacks a factor, has a tensor that is neither update nor task head, or one of the wrong shape.
    """
    insert_blank(model, update)
    architecture, head = of(model), task_head(model)
    expected = {path + factor for path in _shapes_by_path(architecture, update, model) for factor in _FACTORS}
    lacking, strange = expected - lora.tensors.keys(), lora.tensors.keys() - expected - head.keys()
    if lacking:
        raise UserError(f"{lora.folder}/{WEIGHTS} is damaged: it lacks {min(lacking)!r}; save the adapter again")
    if strange:
        raise UserError(
            f"{lora.folder} holds {min(strange)!r}, which is neither an update of a Linear nor of the task head "
            f"({', '.join(architectures.task_head(model.config))})"
        )
    renamed = {_own_name(name): tensor for name, tensor in lora.tensors.items()}
    load_weights(model, weights_of(model) | renamed, lora.folder)
    return sorted(head.keys() - lora.tensors.keys())


def write(model: PreTrainedModel, update: UpdateConfig, base: str, folder: Path) -> None:
    """Write the updates and the task head of `model` into `folder` as a PEFT adapter for the model `base`.

    Raises UserError for a decoder, or a family that packs its projections, or if an update has a sparse part, or if
    heads and neurons have coefficients.
    """
    kind = architectures.head_of(model.config)
    if kind not in _TASK_TYPES:
        raise UserError(
            "PEFT keeps one update for GPT-2's query, key and value; adapters of classifiers alone are written"
        )
    if packed := of(model).packed:
        raise UserError(
            f"PEFT keeps one update for {' and '.join(packed)} of a {of(model).model_type} model, and here each of its "
            "parts has one; such adapters are not written"
        )
    if any(layer.gain is not None for layer in updates(model).values()):
        raise UserError("heads and neurons have coefficients (--slimming), which LoRA cannot express")
    architecture = of(model)
    found = _shapes_by_path(architecture, update, model)
    sparse = next((path for path, shape in found.items() if shape.sparse), None)
    if sparse:
        raise UserError(
            f"the update of {sparse} has {found[sparse].sparse} sparse entries S2, which LoRA cannot express; "
            "fine-tune with --sparse 0"
        )
    rank = _most_frequent(shape.rank for shape in found.values())
    alpha = _most_frequent(shape.alpha for shape in found.values())
    config = {
        "peft_type": "LORA",
        "task_type": _TASK_TYPES[kind],
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": list(found),
        "rank_pattern": {re.escape(path): shape.rank for path, shape in found.items() if shape.rank != rank},
        "alpha_pattern": {re.escape(path): shape.alpha for path, shape in found.items() if shape.alpha != alpha},
        "modules_to_save": list(architectures.task_head(model.config)),
        "lora_dropout": 0.0,
        "bias": "none",
        "init_lora_weights": True,
        "use_rslora": False,
        "use_dora": False,
        "inference_mode": True,
    }
    folders.write_json(folder / CONFIG, config)
    state = model.state_dict()
    names = [path + factor for path in found for factor in _FACTORS] + list(task_head(model))
    save_tensors({_PREFIX + name: state[_own_name(name)] for name in names}, folder / WEIGHTS)


def _places(architecture: Architecture, layers: int) -> dict[str, tuple[int, Role]]:
    """Layer and role of each Linear that may carry an update, by its path in the model."""
    return {
        f"{architecture.layers}.{index}.{architecture.linears[role]}": (index, role)
        for index in range(layers)
        for role in architecture.roles
    }


def _shapes_by_path(architecture: Architecture, update: UpdateConfig, model: PreTrainedModel) -> dict[str, Shape]:
    """The updates of a model, by the path of their Linear."""
    by_place, places = shapes(update, model.config), _places(architecture, model.config.num_hidden_layers)
    return {path: by_place[place] for path, place in places.items() if place in by_place}


def _own_name(name: str) -> str:
    for theirs, ours in _FACTORS.items():
        if name.endswith(theirs):
            return name.removesuffix(theirs) + ours
    return name


def _patterns(values: dict[tuple[int, Role], _Value]) -> tuple[_Value, dict[str, _Value]]:
    """The most frequent value, and patterns for the rest: a role where all its layers agree, else single Linears."""
    usual = _most_frequent(values.values())
    patterns: dict[str, _Value] = {}
    for role in dict.fromkeys(role for _, role in values):
        by_layer: dict[int, _Value] = {index: value for (index, other), value in values.items() if other == role}
        agreed = len({*by_layer.values()}) == 1
        named = {rf"{index}\.{role}": value for index, value in by_layer.items()}
        patterns |= {str(role): by_layer[min(by_layer)]} if agreed else named
    return usual, {pattern: value for pattern, value in patterns.items() if value != usual}


def _most_frequent(values: Iterable[_Value]) -> _Value:
    return Counter(values).most_common(1)[0][0]
