"""Versions of the installed libraries that a result depends on."""

import contextlib
from collections.abc import Iterable
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
    """Of those whose version a result always depends on."""
    return installed(_LIBRARIES)


def installed(packages: Iterable[str]) -> dict[str, str]:
    """By the names of the packages; without those that are not installed."""
    found = {}
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
