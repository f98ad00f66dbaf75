"""What differs between model families: one table a family."""

from . import bert, deberta_v2, distilbert, electra, roberta  # noqa: F401  (registers the families)
from .structure import (
    UNITS,
    Architecture,
    Layer,
    Place,
    blank,
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
    "Place",
    "blank",
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
