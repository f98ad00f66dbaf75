"""ONNX Runtime: one artifact as a function from a batch to logits."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from ..errors import UserError, first_line
from .inputs import LOGITS_TO_KEEP, Batch, Logits

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def runtime() -> Any:
    """The onnxruntime module; UserError if it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            "ONNX Runtime is not installed; pip install 'dsee-compress[cpu]' (or [gpu] for CUDA)"
        ) from error
    return onnxruntime


def require_provider(provider: str) -> Any:
    """The onnxruntime module; UserError if it is not installed or does not have the provider."""
    ort = runtime()
    available = ort.get_available_providers()
    if PROVIDERS[provider] not in available:
        names = ", ".join(name.removesuffix("ExecutionProvider") for name in available)
        raise UserError(f"provider {provider} was asked for, and this ONNX Runtime has only {names}")
    return ort


def load(path: Path, provider: str = "cpu", threads: int | None = None) -> Any:
    """A session of onnxruntime. UserError if the file is damaged, or the provider is not there or falls back."""
    return of_model(str(path), str(path), provider, threads)


def of_model(
    model: str | bytes,
    name: str,
    provider: str = "cpu",
    threads: int | None = None,
    weights: Mapping[str, Any] = MappingProxyType({}),
) -> Any:
    """As `load`; model: a file's path, or its content; name: what errors call it.

    weights: those that the content says are elsewhere, as OrtValues, which have to live as long as the session.
    """
    ort, wanted = require_provider(provider), PROVIDERS[provider]
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_external_initializers([*weights], [*weights.values()])
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        live = ort.InferenceSession(model, options, providers=[wanted])
    except Exception as error:  # its exceptions share no base class
        raise UserError(f"ONNX Runtime cannot load {name}: {first_line(error)}") from error
    used = live.get_providers()[0]
    if used != wanted:
        raise UserError(f"provider {provider} was asked for, and ONNX Runtime fell back to {used}")
    return live


def logits_of(live: Any, given: Batch, provider: str) -> Logits:
    """The logits of a session of that provider."""
    if provider != "cpu":
        return run_bound(live, given, provider)
    logits: Logits = live.run(["logits"], given)[0]
    return logits


def run_bound(live: Any, given: Batch, device: str) -> Logits:
    """The logits of a session, which writes them on its own device; they are fetched once they are whole."""
    binding = live.io_binding()
    for name, array in given.items():
        binding.bind_cpu_input(name, array)
    binding.bind_output("logits", device)
    live.run_with_iobinding(binding)
    logits: Logits = binding.copy_outputs_to_cpu()[0]
    return logits


class Session:
    """One live ONNX Runtime session; `with` frees it, and ends its threads, at the end of the block."""

    def __init__(self, path: Path, provider: str = "cpu", threads: int | None = None) -> None:
        """As `load`; UserError, too, for a model that gives no logits."""
        self._session = load(path, provider, threads)
        outputs = [entry.name for entry in self._session.get_outputs()]
        if "logits" not in outputs:
            raise UserError(f"{path} has no output 'logits', only {', '.join(outputs)}")
        self._path = path
        self._provider = provider
        self.inputs: list[str] = [entry.name for entry in self._session.get_inputs()]
        self._optional = {entry.name for entry in self._session.get_overridable_initializers()}

    def forward(self, batch: Batch) -> Logits:
        """Logits (batch, labels) of a padded batch of int64 arrays (batch, sequence); UserError if the model asks for
        more than these."""
        try:
            given = {name: batch[name] for name in (*self.inputs, *self._optional.intersection(batch))}
        except KeyError as error:
            raise UserError(f"{self._path} has an input {error}, and is given {', '.join(batch)}") from error
        return logits_of(self._session, given, self._provider)

    def of_a_prompt(self, batch: int) -> Batch:
        """What a decoder takes beside a prompt's tokens; nothing for an encoder.

        Keys and values of no earlier tokens, and the number of tokens whose logits are asked for: the last alone.
        """
        shapes = {entry.name: entry.shape for entry in self._session.get_inputs() if entry.name.startswith("past_")}
        past = {name: np.zeros((batch, heads, 0, size), np.float32) for name, (_, heads, _, size) in shapes.items()}
        return past | dict.fromkeys(self._optional & {LOGITS_TO_KEEP}, np.array([1]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._session = None
