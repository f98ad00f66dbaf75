"""A PyTorch model as an ONNX graph with dynamic batch and sequence length."""

import warnings
from pathlib import Path

from transformers import PreTrainedModel

from ..errors import UserError

SEEN_SHAPE = (2, 16)
"""Batch and sequence length of the inputs that the exporter traces."""


def to_onnx(model: PreTrainedModel, path: Path, opset: int) -> None:
    """Write `model` to `path` through optimum's exporter (TorchScript, which the fusion understands).

    Inputs and outputs are named as Optimum names them. Raises UserError if the export libraries are missing.
    """
    try:
        from optimum.exporters.onnx import export
        from optimum.exporters.tasks import TasksManager
    except ImportError as error:
        raise UserError(f"exporting needs optimum-onnx ({error}); pip install 'dsee-compress[cpu]'") from error
    batch, length = SEEN_SHAPE
    constructor = TasksManager.get_exporter_config_constructor(
        "onnx", model=model, task="text-classification", library_name="transformers"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export(
            model,
            constructor(model.config),
            path,
            opset=opset,
            input_shapes={"batch_size": batch, "sequence_length": length},
        )
