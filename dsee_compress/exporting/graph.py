"""A PyTorch model as an ONNX graph with dynamic batch and sequence length."""

import gc
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

from .. import architectures
from ..configs import Graph
from ..errors import UserError
from ..evaluation.inputs import INPUTS
from ..progress import quiet
from . import files, opsets, rewriting

SEEN_SHAPE = (2, 16)
"""Batch and sequence length of the inputs that the exporter traces."""
_TYPES = "token_type_ids"


def to_onnx(model: PreTrainedModel, graph: Graph, opset: int, provider: str, given: Collection[str] = INPUTS) -> Any:
    """An encoder as an OnnxModel in standard operators, or in ONNX Runtime's own where they do more.

    Inputs and outputs are named as Optimum names them; those that are not `given` are left out, and the model takes
    for them what it takes by itself. Raises UserError if the export libraries are missing or too old.
    """
    require_exporter()
    from .passes import contrib, eager, normalisation, rotation

    program = exported(model, max(opset, opsets.WITH_ATTENTION), given)
    program.optimize()
    local = architectures.window(model.config) is not None
    own = contrib.rules(program.model, local=local) if graph == "fused" else rotation.RULES
    together = normalisation.TOGETHER if graph == "fused" and provider != "cpu" else ()
    rewriting.rewrite(program.model, [*eager.RULES, *own, *together])
    written = files.of_program(program)
    opsets.lower(written, opset)
    return written


def exported(model: PreTrainedModel, opset: int, given: Collection[str] = INPUTS) -> Any:
    """What torch's exporter makes of an encoder, as it was traced: an ONNXProgram."""
    names = inputs(model.config, given)
    batch, length = torch.export.Dim("batch_size"), torch.export.Dim("sequence_length")
    # One tensor an input: the exporter takes two inputs that are one tensor for one input.
    example = {name: torch.ones(SEEN_SHAPE, dtype=torch.int64) for name in names}
    with quiet("torch.onnx"), uncollected(), torch.no_grad():
        return torch.onnx.export(
            model,
            kwargs=example,
            dynamo=True,
            opset_version=opset,
            input_names=names,
            output_names=["logits"],
            dynamic_shapes={name: {0: batch, 1: length} for name in names},
            optimize=False,
            verbose=False,
        )


@contextmanager
def uncollected() -> Iterator[None]:
    """Let no garbage be looked for: among the many objects that tracing makes, that takes a sixth of its time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def inputs(config: PretrainedConfig, given: Collection[str]) -> list[str]:
    """Which of the `given` inputs an encoder takes; token types, if it knows more than one."""
    types = architectures.get(config.model_type).token_types and (config.type_vocab_size or 0) > 1
    taken = ["input_ids", "attention_mask", *([_TYPES] if types else [])]
    return [name for name in taken if name in given]


def require_exporter() -> None:
    """Raise UserError unless what torch's exporter writes with is there, and both are new enough."""
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"exporting needs onnxscript ({error}); pip install 'dsee-compress[cpu]'") from error
    if not hasattr(getattr(torch.onnx, "ops", None), "attention"):
        raise UserError(f"exporting needs torch 2.9 or newer, and this is {torch.__version__}; upgrade it")
