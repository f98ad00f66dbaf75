"""Versions of the installed libraries that a result depends on."""

import contextlib
from importlib import metadata

_LIBRARIES = (
    "dsee-compress",
    "torch",
    "transformers",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
)


def of_libraries() -> dict[str, str]:
    """By the names of their packages; without those that are not installed."""
    found = {}
    for name in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
