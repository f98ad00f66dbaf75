"""What stages ask of the modules `encoder` and `decoder`."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol

from transformers import PretrainedConfig, PreTrainedModel

from ..configs import Graph
from ..evaluation.inputs import INPUTS, Batch
from ..evaluation.latency import Phase, Setting
from ..evaluation.parity import Parity
from ..exporting.fusion import NodeCount
from ..exporting.precision import Lower


class Interface(Protocol):
    """A module with these functions."""

    LOWER: Lower
    """How each precision below fp32 is made."""
    TORCH_ON_CARD: bool
    """Whether a card holds what is remembered between calls in PyTorch's tensors."""
    PHASES: tuple[Phase, ...]
    """The kinds of calls that are timed; the first is that of which a row of benchmark.json is."""

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

    def require_length(self, config: PretrainedConfig, length: int, new_tokens: int, section: str) -> None:
        """UserError, naming the options in their `section` of a recipe, for more tokens than the model reads."""
        ...

    def batch(self, vocabulary: int, setting: Setting) -> Batch:
        """Random tokens that every phase is timed on, (setting.batch, setting.sequence_length)."""
        ...

    def beside(self, path: Path, setting: Setting, row: dict[str, Any]) -> dict[str, Any]:
        """What a row of benchmark.json holds of such a model, beside the figures of its phases."""
        ...
