"""Where the readers of an exported folder look for its files: one table a layout, data alone.

The fields of `config.json` are transformers.js' own (`transformers.js_config`) and sentence-transformers' own
(`sentence_transformers`, which a CrossEncoder reads); the other readers leave them alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from ..configs import LayoutName, Precision
from ..tasks import HeadKind
from . import files

GRAPHS = Path("onnx")
"""The folder of the graphs, where they do not stand beside `config.json`."""
_SUFFIXES: dict[Precision, str] = {name: "" if name == "fp32" else f"_{name}" for name in get_args(Precision)}
_DTYPES: dict[Precision, str] = {"fp32": "fp32", "fp16": "fp16", "int8": "q8", "int8_static": "int8", "int4": "q4"}
"""What transformers.js calls a precision."""


@dataclass(frozen=True)
class Layout:
    """The files of an exported folder as one kind of reader expects them."""

    graphs: Mapping[Precision, Path]
    """Path in the folder of each precision's graph."""
    heads: tuple[HeadKind, ...] = get_args(HeadKind)
    """Heads of the models that its reader runs."""
    of_pairs_alone: bool = False
    """Whether it reads two texts, and not one."""
    entries: Callable[[Mapping[Precision, Path]], dict[str, Any]] = field(default=lambda there: {})
    """What `config.json` says to its reader, of the graphs that are there."""
    needs_fast_tokenizer: bool = False
    """Whether its reader knows a tokenizer by `tokenizer.json` alone."""

    def fits(self, head: HeadKind, texts: int) -> bool:
        """Whether its reader runs a model of such a head on so many texts a row."""
        return head in self.heads and not (self.of_pairs_alone and texts < 2)


def _told_to_javascript(there: Mapping[Precision, Path]) -> dict[str, Any]:
    """The precision that is read where the user asks for none, and which graphs have their weights beside them."""
    apart = {path.name: 1 for path in there.values() if files.weights_of(path).is_file()}
    own: dict[str, Any] = {"dtype": _DTYPES["int8" if "int8" in there else next(iter(there))]}
    return {"transformers.js_config": own | ({"use_external_data_format": apart} if apart else {})}


LAYOUTS: dict[LayoutName, Layout] = {
    "optimum": Layout({name: Path(f"model{suffix}.onnx") for name, suffix in _SUFFIXES.items()}),
    "transformers.js": Layout(
        {
            name: GRAPHS / f"model{suffix}.onnx"
            for name, suffix in (_SUFFIXES | {"int8": "_quantized", "int8_static": "_int8", "int4": "_q4"}).items()
        },
        entries=_told_to_javascript,
        needs_fast_tokenizer=True,
    ),
    "sentence-transformers": Layout(
        {name: GRAPHS / f"model{suffix}.onnx" for name, suffix in _SUFFIXES.items()},
        heads=("sequence",),
        of_pairs_alone=True,
        # A CrossEncoder squeezes the only score of a text into 0 to 1 unless it is told not to.
        entries=lambda there: {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
    ),
}
