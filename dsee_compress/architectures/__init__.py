"""What differs between model families: one table a family."""

from . import bert, deberta_v2, distilbert, electra, gpt2, llama, roberta  # noqa: F401  (registers the families)
from .structure import (
    UNITS,
    Architecture,
    Layer,
    Place,
    auto_class,
    blank,
    from_config,
    get,
    known,
    layers,
    longest_input,
    named_linears,
    of,
    require_length,
    resize,
    rows,
    set_submodule,
    take_apart,
)

__all__ = [
    "UNITS",
    "Architecture",
    "Layer",
    "Place",
    "auto_class",
    "blank",
    "from_config",
    "get",
    "known",
    "layers",
    "longest_input",
    "named_linears",
    "of",
    "require_length",
    "resize",
    "rows",
    "set_submodule",
    "take_apart",
]
