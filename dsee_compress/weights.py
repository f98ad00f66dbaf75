"""A model's weights, in memory by name and on disk as safetensors."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def save_tensors(tensors: dict[str, Any], path: Path) -> None:
    """Write tensors as safetensors."""
    from safetensors.torch import save_file

    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path, {"format": "pt"})


def load_tensors(path: Path) -> dict[str, Any]:
    """Read a safetensors file; UserError if it is missing or damaged."""
    from safetensors.torch import load_file

    check_tensors(path)
    return load_file(path)


def check_tensors(path: Path) -> None:
    """Raise UserError if a safetensors file is missing or damaged (truncated, say)."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        index = path.with_name(f"{path.name}.index.json")
        parts = (
            f", and {index.name} names weights in parts; a stage keeps them in one file: " if index.exists() else "; "
        )
        raise UserError(f"{path} is missing{parts}write the folder again")
    try:
        with safe_open(path, framework="pt"):
            pass
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}); get or write it again") from error


def weights_of(model: "PreTrainedModel") -> dict[str, Any]:
    """The model's tensors by name; one that stands under several names, tied embeddings say, by its first alone."""
    again = _tied(model)
    return {name: tensor for name, tensor in model.state_dict().items() if name not in again}


def load_weights(model: "PreTrainedModel", tensors: dict[str, Any], source: Path) -> None:
    """Load what `weights_of` gave into `model` strictly; UserError if names or shapes differ."""
    again = {name: tensors[first] for name, first in _tied(model).items() if first in tensors}
    try:
        model.load_state_dict(tensors | again, strict=True)
    except RuntimeError as error:
        details = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise UserError(f"{source} does not fit the model that its folder describes: {details}") from error


def load_files(model: "PreTrainedModel", paths: list[Path], source: Path) -> None:
    """As `load_weights`, of safetensors files: tensor by tensor, so that no second copy of the weights is in memory.

    Where a name is in several files, the last counts. UserError, too, if a file is missing or damaged.
    """
    import torch
    from safetensors import safe_open

    places: dict[str, Path] = {}
    for path in paths:
        check_tensors(path)
        with safe_open(path, framework="pt") as content:
            places.update(dict.fromkeys(content.keys(), path))
    wanted = weights_of(model)
    if places.keys() != wanted.keys():
        load_weights(model, _together(paths), source)
        return
    for name, path in places.items():
        # A file that stays open keeps what was read of it in memory.
        with safe_open(path, framework="pt") as content, torch.no_grad():
            tensor = content.get_tensor(name)
            if tensor.shape != wanted[name].shape:
                load_weights(model, _together(paths), source)
                return
            wanted[name].copy_(tensor)


def _together(paths: list[Path]) -> dict[str, Any]:
    return {name: tensor for path in paths for name, tensor in load_tensors(path).items()}


def release(model: "PreTrainedModel") -> None:
    """Give the memory of a model's weights back, whoever still holds the model, which answers nothing from now on."""
    model.to("meta")


def _tied(model: "PreTrainedModel") -> dict[str, str]:
    """The further names of tensors that have several, and the first name of each."""
    first: dict[int, str] = {}
    names = {name: first.setdefault(id(tensor), name) for name, tensor in model.state_dict(keep_vars=True).items()}
    return {name: original for name, original in names.items() if name != original}
