"""A PyTorch model as an ONNX graph with dynamic batch and sequence length."""

from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import PreTrainedModel

from .. import architectures
from ..errors import UserError
from ..evaluation.inputs import INPUTS
from ..progress import quiet
from ..tasks import HeadKind
from . import files
from .passes import rotation

_TASKS: dict[HeadKind, str] = {"sequence": "text-classification", "token": "token-classification"}
"""What Optimum calls a model with such a head."""
SEEN_SHAPE = (2, 16)
"""Batch and sequence length of the inputs that the exporters trace."""


def to_onnx(model: PreTrainedModel, opset: int, given: Collection[str] = INPUTS) -> Any:
    """`model` as an OnnxModel by optimum's exporter (TorchScript, which the fusion understands).

    Inputs and outputs are named as Optimum names them; those that are not `given` are left out, and the model takes
    for them what it takes by itself. Raises UserError if the export libraries are missing. The exporter has no way but
    to write a file, and to read it again for a check of its own.
    """
    names = _names(model, given)
    from optimum.exporters.onnx import export

    batch, length = SEEN_SHAPE
    with quiet("torch.onnx"), TemporaryDirectory() as folder:
        path = Path(folder, "plain.onnx")
        export(
            model,
            names,
            path,
            opset=opset,
            input_shapes={"batch_size": batch, "sequence_length": length},
        )
        return files.load(path)


def to_portable(model: PreTrainedModel, opset: int, given: Collection[str] = INPUTS) -> Any:
    """`model` as an OnnxModel by torch.export, in standard operators alone, `Attention` and `Gelu` among them.

    opset: 23 or later, the first with `Attention`. Inputs, outputs and errors as `to_onnx`.
    """
    names = list(_names(model, given).inputs)
    batch, length = torch.export.Dim("batch_size"), torch.export.Dim("sequence_length")
    # One tensor an input: the exporter takes two inputs that are one tensor for one input.
    example = {name: torch.ones(SEEN_SHAPE, dtype=torch.int64) for name in names}
    with quiet("torch.onnx"):
        program = torch.onnx.export(
            model,
            kwargs=example,
            dynamo=True,
            opset_version=opset,
            input_names=names,
            output_names=["logits"],
            dynamic_shapes={name: {0: batch, 1: length} for name in names},
            verbose=False,
        )
    written = files.of_program(program)
    rotation.repeat_angles(written)
    return written


def _names(model: PreTrainedModel, given: Collection[str]) -> Any:
    """Optimum's description of the model's inputs, of which the `given` ones stay, and outputs."""
    try:
        import optimum.exporters.onnx.model_configs  # noqa: F401  (registers the descriptions)
        from optimum.exporters.tasks import TasksManager

        constructor = TasksManager.get_exporter_config_constructor(
            "onnx", model=model, task=_TASKS[architectures.head_of(model.config)], library_name="transformers"
        )
    except ImportError as error:
        raise UserError(f"exporting needs optimum-onnx ({error}); pip install 'dsee-compress[cpu]'") from error
    description = constructor(model.config)
    whole = type(description)

    def inputs(self: Any) -> dict[str, Any]:
        return {name: axes for name, axes in whole.inputs.fget(self).items() if name in given}

    description.__class__ = type(whole.__name__, (whole,), {"inputs": property(inputs)})
    return description
