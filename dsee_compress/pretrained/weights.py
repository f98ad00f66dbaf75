"""Whether the weights of a pretrained folder are what its config describes: found out before anything is trained."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import architectures
from ..errors import UserError, first_line
from ..progress import quiet, without_bars
from ..weights import check_tensors

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_FLOATS = {"F64", "F32", "F16", "BF16"}
_SHOWN = 3


@dataclass(frozen=True)
class Stored:
    """What a safetensors file says of a tensor in it."""

    file: Path
    shape: tuple[int, ...]
    dtype: str
    """As safetensors names it: F32, I64."""


def files(folder: Path) -> list[Path]:
    """The safetensors files with the weights of `folder`: one, or the parts that its index names.

    UserError if there are none, or the index is damaged, names a file elsewhere or one that is not there.
    """
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if not (folder / INDEX).is_file():
        raise UserError(f"model folder {folder} has no {SINGLE}; save it with safe_serialization")
    names = sorted({*_index(folder).values()})
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise UserError(f"{folder / INDEX} names {name!r}, which is no safetensors file beside it; do not use it")
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is missing, and {INDEX} names it; get the folder again")
    return [folder / name for name in names]


def require_sound(folder: Path, config: "PretrainedConfig") -> list[str]:
    """Compare names, shapes and types of the weights in `folder` with what `config` describes, and look for NaN and
    infinity; the task head alone may be missing or of another shape.

    Returns what is worth telling. UserError naming a tensor if something does not fit.
    """
    stored = _stored(folder)
    for name, tensor in stored.items():
        if name.endswith("weight") and tensor.dtype not in _FLOATS:
            raise UserError(
                f"{tensor.file} holds {name!r} as {tensor.dtype}, a quantised type; give the weights before quantising"
            )
    if config.num_hidden_layers > len(stored):  # told before so many are built
        raise UserError(
            f"the weights in {folder} are {len(stored)} tensors, and its config.json describes "
            f"{config.num_hidden_layers} layers; they are of another model"
        )
    model, loading = _expected(folder, config)
    parameters = {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}
    head = tuple(f"{path}." for path in architectures.task_head(config))
    prefix = f"{model.base_model_prefix}."

    def kept_in(name: str) -> Stored | None:
        return stored.get(name) or stored.get(name.removeprefix(prefix))

    missing = sorted(name for name in loading["missing_keys"] if not name.startswith(head))
    if missing:
        raise UserError(
            f"the weights in {folder} lack {len(missing)} tensors that its config.json describes, "
            f"{missing[0]!r} among them; they are of another model"
        )
    for name in sorted(entry[0] if isinstance(entry, tuple) else entry for entry in loading["mismatched_keys"]):
        found = kept_in(name)
        if not name.startswith(head):
            shape = found.shape if found else "another shape"
            raise UserError(
                f"the weights in {folder} have {name!r} as {shape}, and its config.json describes "
                f"{parameters.get(name)}; they do not belong together"
            )
    unexpected = {*loading["unexpected_keys"]}
    inside = sorted(name for name in unexpected if _is_inside(model, name.removeprefix(prefix)))
    if inside:
        raise UserError(
            f"the weights in {folder} hold {len(inside)} tensors that its config.json does not describe, "
            f"{inside[0]!r} among them; they are of another model"
        )
    used = {name: tensor for name, tensor in stored.items() if not {name, prefix + name} & unexpected}
    _require_finite(used)
    return [f"{folder}: left out what stands on top of the encoder: {_listed(unexpected)}"] if unexpected else []


def _index(folder: Path) -> dict[str, str]:
    """The file of each tensor."""
    try:
        parts = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        if not parts or not all(isinstance(file, str) for file in parts.values()):
            raise ValueError("weight_map names no files")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{folder / INDEX} is damaged ({first_line(error)}); get the folder again") from error
    return dict(parts)


def _stored(folder: Path) -> dict[str, Stored]:
    """Every tensor of a folder; UserError if a file is damaged, or the parts are not those of the index."""
    from safetensors import safe_open

    found: dict[str, Stored] = {}
    for file in files(folder):
        check_tensors(file)
        with safe_open(file, framework="pt") as content:
            for name in content.keys():  # noqa: SIM118  (the handle is no mapping)
                part = content.get_slice(name)
                found[name] = Stored(file, tuple(part.get_shape()), part.get_dtype())
    if not (folder / SINGLE).is_file():
        index = _index(folder)
        for name in sorted({*index} | {*found}):
            if name not in found or index.get(name) != found[name].file.name:
                raise UserError(
                    f"{folder / INDEX} and the files that it names differ in {name!r}; get the folder again"
                )
    return found


def _expected(folder: Path, config: "PretrainedConfig") -> tuple["PreTrainedModel", dict[str, Any]]:
    """The model of `config` without storage, and what transformers says of loading the weights in `folder`."""
    import torch

    try:
        with quiet("transformers.modeling_utils"), without_bars():
            model, loading = architectures.auto_class(config).from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                device_map="meta",
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                trust_remote_code=False,
            )
    except Exception as error:  # safetensors raises Exception itself
        raise UserError(f"model {str(folder)!r} cannot be loaded: {first_line(error)}") from error
    return model, loading


def _is_inside(model: "PreTrainedModel", name: str) -> bool:
    """Whether a tensor without a place would stand in the embeddings or layers, `embeddings_project` say, and not on
    top of them."""
    first = name.partition(".")[0]
    return any(first == part or first.startswith(f"{part}_") for part, _ in model.base_model.named_children())


def _require_finite(tensors: dict[str, Stored]) -> None:
    """UserError naming a tensor with NaN or infinity in fp32; one tensor is in memory at a time."""
    import torch
    from safetensors import safe_open

    for file in sorted({tensor.file for tensor in tensors.values()}):
        with safe_open(file, framework="pt") as content:
            for name, stored in tensors.items():
                if stored.file != file or stored.dtype not in _FLOATS:
                    continue
                wrong = ~torch.isfinite(content.get_tensor(name).float())
                if wrong.any():
                    raise UserError(
                        f"{file} has NaN or infinity in {name!r} ({int(wrong.sum())} of {wrong.numel()} values); "
                        "get weights that are whole"
                    )


def _listed(names: set[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(sorted(names)[:_SHOWN]) + more
