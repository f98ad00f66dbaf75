"""What may leave this machine: names of models and folders, where paths would tell whose machine it was."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

PLACES = {"model", "data", "adapter", "target", "trim_vocabulary", "keep_texts", "baseline", "compare"}
"""The options, of all stages, that may hold paths."""


def named(place: str) -> str:
    """A hub id or another name as it is; of a path, its last part."""
    path = Path(place)
    is_path = path.is_absolute() or place.startswith((".", "~")) or (place.count("/") > 1 and ":" not in place)
    return path.name or place if is_path else place


def named_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's resolved options, with names where they hold paths."""
    return {option: _named(value) if option in PLACES else value for option, value in options.items()}


def _named(value: Any) -> Any:
    if isinstance(value, list):
        return [_named(entry) for entry in value]
    return named(value) if isinstance(value, str) else value
