"""Plain models in stage folders: every layer with its own number of heads and neurons."""

from pathlib import Path
from typing import TYPE_CHECKING

from . import loading, tasks
from .errors import UserError, first_line
from .loading import CONFIG
from .store.folders import MANIFEST
from .store.manifest import Manifest, PruneManifest
from .weights import load_files, save_tensors, weights_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

WEIGHTS = "model.safetensors"


def config_of(folder: Path) -> "PretrainedConfig":
    """A stage folder's config.json; UserError if it is missing or damaged."""
    loading.require_no_code(folder, "no stage wrote it so; write the folder again")
    try:
        config = loading.config_of(folder)
        if not isinstance(config.vocab_size, int):
            raise TypeError("vocab_size")
        return config
    except Exception as error:  # transformers raises what a damaged entry happens to cause
        raise UserError(f"{folder}/config.json is missing or damaged; write the folder again") from error


def home_of(graph: Path) -> Path:
    """The folder that tells of the model in an ONNX file: where the file stands, or one above (see `layouts`)."""
    above = graph.parent.parent
    return above if not (graph.parent / CONFIG).is_file() and (above / CONFIG).is_file() else graph.parent


def build(folder: Path) -> "PreTrainedModel":
    """A model with the layout of `folder`'s config.json, unpruned, its weights neither drawn nor loaded yet.

    Raises UserError if no model can be built by it, or dsee.json tells of heads or neurons that it does not have.
    """
    from . import architectures

    described, config = Manifest.read(folder), config_of(folder)
    try:
        architectures.give_head(config, tasks.of(described.task).head)
        with architectures.no_init_weights():
            model = architectures.from_config(config)
        model.tie_weights()  # which transformers 4 leaves to who draws them
    except UserError:
        raise
    except Exception as error:  # whatever a number that is none, too large or zero leads to
        raise UserError(f"{folder}/config.json is of no model ({first_line(error)}); write the folder again") from error
    structure, layers = described.structure, architectures.layers(model)
    if len(structure.heads) != len(layers) or any(
        max(heads, default=-1) >= layer.heads or max(neurons, default=-1) >= layer.neurons
        for layer, heads, neurons in zip(layers, structure.heads, structure.neurons, strict=False)
    ):
        raise UserError(f"{folder}: {MANIFEST} and config.json are of different models; write the folder again")
    return model


def load(folder: Path) -> "PreTrainedModel":
    """The model of a `prune` folder, in eval mode."""
    from . import architectures

    manifest = PruneManifest.read(folder)
    model = build(folder)
    with architectures.no_init_weights():
        architectures.resize(model, manifest.structure.head_counts, manifest.structure.neuron_counts)
    load_files(model, [folder / WEIGHTS], folder / WEIGHTS)
    return model.eval()


def save(model: "PreTrainedModel", folder: Path) -> None:
    """Write `model.safetensors` and `config.json`."""
    save_tensors(weights_of(model), folder / WEIGHTS)
    model.config.save_pretrained(folder)
