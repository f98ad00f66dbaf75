"""What differs between model families: one table a family."""

from . import bert, roberta  # noqa: F401  (registers the families)
from .structure import (
    UNITS,
    Architecture,
    Layer,
    get,
    known,
    layers,
    longest_input,
    named_linears,
    of,
    require_length,
    resize,
    rows,
)

__all__ = [
    "UNITS",
    "Architecture",
    "Layer",
    "get",
    "known",
    "layers",
    "longest_input",
    "named_linears",
    "of",
    "require_length",
    "resize",
    "rows",
]
