"""A bundle's folder, opened: what bundle.json says, and the session of its model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

if TYPE_CHECKING or __package__:
    from .usage import UsageError, first_line
else:  # in a bundle
    from usage import UsageError, first_line

SCHEMA = 1
Fields = Mapping[str, Callable[[Any], bool]]
"""Entries of bundle.json, and whether a value can be that."""


def is_number(value: Any, least: int = 0) -> bool:
    """Whether it is a whole number from `least` on."""
    return type(value) is int and least <= value < 2**31


def are_texts(value: Any) -> bool:
    """Whether it is a list of strings."""
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def damage(folder: Path, what: str) -> UsageError:
    """The error that says what is wrong with the bundle in `folder`."""
    return UsageError(f"the bundle in {folder} is damaged ({what}); copy it again")


def read(folder: Path, fields: Fields) -> dict[str, Any]:
    """The content of bundle.json, with `fields`; UsageError if it is missing or damaged, or of another schema."""
    try:
        bundle: dict[str, Any] = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise damage(folder, first_line(error)) from error
    if not isinstance(bundle, dict) or not is_number(bundle.get("schema")):
        raise damage(folder, "bundle.json has no 'schema'")
    if bundle["schema"] != SCHEMA:
        raise UsageError(
            f"{folder / 'bundle.json'} has schema {bundle['schema']}, and this program reads {SCHEMA}; use that of "
            "the same bundle"
        )
    require(folder, bundle, fields)
    return bundle


def require(folder: Path, bundle: dict[str, Any], fields: Fields) -> None:
    """Raise UsageError unless what bundle.json says has `fields`."""
    for name, fits in fields.items():
        if name not in bundle or not fits(bundle[name]):
            raise damage(folder, f"bundle.json has {'a wrong' if name in bundle else 'no'} {name!r}")


class Session:
    """The model of a bundle in ONNX Runtime."""

    def __init__(self, folder: Path, bundle: dict[str, Any], threads: int | None = None) -> None:
        """Load it; UsageError if it cannot be, or is not what bundle.json describes."""
        self._folder = folder
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or 0
        try:
            self._session = onnxruntime.InferenceSession(
                str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions share no base class
            raise damage(folder, first_line(error)) from error
        asked = {entry.name for entry in self._session.get_inputs()}
        if asked != {*bundle["inputs"]} or "logits" not in {entry.name for entry in self._session.get_outputs()}:
            raise damage(folder, "model.onnx is not the model that bundle.json describes")

    def run(self, outputs: list[str] | None, given: dict[str, Any]) -> list[Any]:
        """One call of the model; UsageError if it fails."""
        try:
            found: list[Any] = self._session.run(outputs, given)
        except Exception as error:
            raise UsageError(
                f"the model in {self._folder} cannot be run ({first_line(error)}); copy the bundle again, or give a "
                "smaller --batch if the memory is too small"
            ) from error
        return found

    def cache(self, rows: int, tokens: int) -> dict[str, Any]:
        """Keys and values of so many tokens, all 0, (rows, heads, tokens, head size) a layer, by the inputs' names."""
        kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        entries = [entry for entry in self._session.get_inputs() if entry.name.startswith("past_key_values.")]
        return {
            entry.name: np.zeros((rows, entry.shape[1], tokens, entry.shape[3]), kinds[entry.type]) for entry in entries
        }
