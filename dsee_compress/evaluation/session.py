"""An ONNX Runtime session as a function from a batch to logits."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from .inputs import Batch, Forward, Logits

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True)
class Session:
    """A live session: the names of its inputs and its forward pass."""

    inputs: list[str]
    forward: Forward


def runtime() -> Any:
    """The onnxruntime module; UserError if it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            "ONNX Runtime is not installed; pip install 'dsee-compress[cpu]' (or [gpu] for CUDA)"
        ) from error
    return onnxruntime


@contextmanager
def open_session(path: Path, provider: str = "cpu", threads: int | None = None) -> Iterator[Session]:
    """Load `path` and yield its session; it is freed, and its threads end, with the block.

    UserError if the file is damaged, or the provider is not there or falls back to another.
    """
    ort = runtime()
    wanted = PROVIDERS[provider]
    if wanted not in ort.get_available_providers():
        raise UserError(f"provider {provider} was asked for, and this ONNX Runtime has only {_names(ort)}")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = ort.InferenceSession(str(path), options, providers=[wanted])
    except Exception as error:
        raise UserError(f"ONNX Runtime cannot load {path}: {str(error).splitlines()[0]}") from error
    if session.get_providers()[0] != wanted:
        raise UserError(f"provider {provider} was asked for, and ONNX Runtime fell back to {session.get_providers()[0]}")
    names = [entry.name for entry in session.get_inputs()]

    def forward(batch: Batch) -> Logits:
        logits: Logits = session.run(["logits"], {name: batch[name] for name in names})[0]
        return logits

    try:
        yield Session(names, forward)
    finally:
        del session, forward


def _names(ort: Any) -> str:
    return ", ".join(name.removesuffix("ExecutionProvider") for name in ort.get_available_providers())
