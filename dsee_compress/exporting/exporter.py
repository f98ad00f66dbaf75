"""What `export` asks of the modules that know how a kind of models becomes ONNX: encoder and decoder."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol

from transformers import PreTrainedModel

from ..configs import Graph
from ..evaluation.inputs import INPUTS
from ..evaluation.parity import Parity
from .fusion import NodeCount
from .precision import Lower


class Exporter(Protocol):
    """A module with these functions."""

    LOWER: Lower
    """How each precision below fp32 is made."""

    def describe(self, model: PreTrainedModel, graph: Graph) -> str:
        """What `write` does, in a few words."""
        ...

    def write(
        self,
        model: PreTrainedModel,
        path: Path,
        graph: Graph,
        opset: int,
        provider: str,
        given: Collection[str] = INPUTS,
    ) -> dict[str, Any]:
        """Write `model` in fp32 to `path`; returns what is noted in the export's metrics.

        given: names of what the tokenizer gives. An encoder's graph asks for nothing else.
        """
        ...

    def require_fused(self, model: PreTrainedModel, graph: Graph, path: Path) -> NodeCount:
        """Count the nodes in `path`; GateError if they are not what a graph of this kind promises."""
        ...

    def prove(self, model: PreTrainedModel, path: Path) -> Parity:
        """Compare `model` with the file in ONNX Runtime on inputs that the exporter did not see; GateError."""
        ...
