"""What stages ask of the modules `encoder` and `decoder`."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol

from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..configs import Graph, ValidateConfig
from ..evaluation.inputs import INPUTS, Batch
from ..evaluation.latency import Phase, Setting
from ..evaluation.parity import Parity
from ..exporting.fusion import NodeCount
from ..exporting.precision import Passes
from ..store.manifest import ExportManifest, Manifest
from ..tasks import Collator, Spec, Task
from .examination import Examination


class Interface(Protocol):
    """A module with these functions."""

    PASSES: Passes
    """How each precision below fp32 is made."""
    TORCH_ON_CARD: bool
    """Whether a card holds what is remembered between calls in PyTorch's tensors."""
    PHASES: tuple[Phase, ...]
    """The kinds of calls that are timed; the first is that of which a row of benchmark.json is."""

    def require_exportable(self, config: PretrainedConfig, where: str) -> None:
        """UserError for what a pretrained config asks of such a model and no graph does; `where` names the model."""
        ...

    def settle(self, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, where: str) -> list[str]:
        """Have `tokenizer` give what a model of `config` takes, in place; returns what is worth telling.

        UserError, saying what to do, where they do not belong together.
        """
        ...

    def describe(self, graph: Graph) -> str:
        """What `to_onnx` does, in a few words."""
        ...

    def to_onnx(
        self, model: PreTrainedModel, graph: Graph, opset: int, provider: str, given: Collection[str] = INPUTS
    ) -> tuple[Any, dict[str, Any]]:
        """`model` in fp32 as an OnnxModel, and what is noted in the export's metrics.

        given: names of what the tokenizer gives. An encoder's graph asks for nothing else.
        """
        ...

    def require_fused(self, model: PreTrainedModel, written: Any, name: str) -> NodeCount:
        """Count the nodes of an OnnxModel; GateError, if they are not what a graph of this kind promises.

        name: that of its file.
        """
        ...

    def prove(self, model: PreTrainedModel, path: Path, task: Task[Any]) -> Parity:
        """Compare `model` with the file in ONNX Runtime on inputs that the exporter did not see; GateError.

        `model` is used up by it: its weights go before the session has its own.
        """
        ...

    def examine(
        self, task: Spec, split: str, tokenizer: PreTrainedTokenizerBase, config: ValidateConfig
    ) -> Examination:
        """Every metric of the task, on a split of its data."""
        ...

    def examine_quickly(self, task: Spec, rows: Any, collator: Collator, batch_size: int) -> Examination:
        """The metrics that one forward pass over encoded rows gives."""
        ...

    def require_length(self, config: PretrainedConfig, length: int, new_tokens: int, section: str) -> None:
        """UserError, naming the options in their `section` of a recipe, for more tokens than the model reads."""
        ...

    def batch(self, vocabulary: int, setting: Setting) -> Batch:
        """Random tokens that every phase is timed on, (setting.batch, setting.sequence_length)."""
        ...

    def in_report(
        self, tuned: Manifest, pruned: Manifest, exported: ExportManifest, validation: dict[str, Any]
    ) -> dict[str, Any]:
        """What report.json holds of such a model alone."""
        ...

    def beside(self, path: Path, setting: Setting, row: dict[str, Any]) -> dict[str, Any]:
        """What a row of benchmark.json holds of such a model, beside the figures of its phases."""
        ...
