"""An encoder with a task head as ONNX: a classifier or a regressor."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from .. import architectures, tasks, weights
from ..configs import Graph, ValidateConfig
from ..evaluation import onnx_file, parity, session
from ..evaluation.inputs import INPUTS, Batch, Forward, Logits, random_batches
from ..evaluation.latency import Phase, Setting, onnx_forward
from ..evaluation.parity import Parity
from ..exporting import fusion, parts
from ..exporting import graph as graphs
from ..exporting.fusion import NodeCount
from ..exporting.passes import first_token, normalisation
from ..exporting.precision import ENCODER as PASSES
from ..store.manifest import ExportManifest, Manifest
from ..tasks import Collator, Spec, Task
from .encoder_inputs import require_exportable, settle
from .examination import ByLogits, Examination

__all__ = [
    "PASSES",
    "PHASES",
    "TORCH_ON_CARD",
    "batch",
    "beside",
    "describe",
    "examine",
    "examine_quickly",
    "in_report",
    "prove",
    "require_exportable",
    "require_fused",
    "require_length",
    "settle",
    "to_onnx",
]

TORCH_ON_CARD = False

UNSEEN_SHAPES = [(1, 5), (3, 31), (5, 64), (4, 100), (2, 128)]
"""Batch and sequence length on which the export gate compares; none is what the exporter traced."""


PHASES = (Phase("call", None, lambda path, setting, _: onnx_forward(path, setting)),)


def in_report(
    tuned: Manifest, pruned: Manifest, exported: ExportManifest, validation: dict[str, Any]
) -> dict[str, Any]:
    """As `Interface.in_report`: nothing."""
    return {}


def describe(graph: Graph) -> str:
    """As `Interface.describe`."""
    return "export and fuse" if graph == "fused" else "export in standard operators"


def to_onnx(
    model: PreTrainedModel, graph: Graph, opset: int, provider: str, given: Collection[str] = INPUTS
) -> tuple[Any, dict[str, Any]]:
    """As `Interface.to_onnx`: says how many nodes compute the first token alone."""
    family = architectures.of(model)
    written = graphs.to_onnx(model, graph, opset, provider, given)
    known = parts.of(written, family) | parts.of_attention(written)
    narrowed = first_token.narrow(written, one_query=family.one_query)
    if provider == "cpu":
        normalisation.sum_before(written)
    parts.say(written, known, family)
    return written, {"narrowed": vars(narrowed)}


def require_fused(model: PreTrainedModel, written: Any, name: str) -> NodeCount:
    """As `Interface.require_fused`: an attention and a GELU node a layer."""
    return fusion.require_fused(written, name, len(architectures.layers(model)))


def prove(model: PreTrainedModel, path: Path, task: Task[Any]) -> Parity:
    """As `Interface.prove`: logits of padded batches."""
    longest = architectures.longest_input(model.config)
    shapes = [(batch, min(length, longest)) for batch, length in UNSEEN_SHAPES]
    padding, window = model.config.pad_token_id or 0, architectures.window(model.config)
    names, vocabulary = onnx_file.inputs(path), model.config.vocab_size
    batches = random_batches(shapes, vocabulary, names, pad_token=padding, window=window)

    def answers(forward: Forward) -> list[Logits]:
        return [task.answering(forward(batch), batch) for batch in batches]

    wanted = answers(parity.torch_forward(model))
    weights.release(model)
    with session.Session(path) as live:
        return parity.passed(parity.EXPORT, wanted, answers(live.forward), labelled=task.one_of_several)


def examine(task: Spec, split: str, tokenizer: PreTrainedTokenizerBase, config: ValidateConfig) -> Examination:
    """As `Interface.examine`."""
    return ByLogits(task, tasks.encode(task, split, tokenizer), tasks.of(task).collator(tokenizer), config.batch_size)


def examine_quickly(task: Spec, rows: Any, collator: Collator, batch_size: int) -> Examination:
    """As `Interface.examine_quickly`: the same metrics."""
    return ByLogits(task, rows, collator, batch_size)


def require_length(config: PretrainedConfig, length: int, new_tokens: int, section: str) -> None:
    """As `Interface.require_length`."""
    architectures.require_length(config, f"{section}sequence_length", length)


def batch(vocabulary: int, setting: Setting) -> Batch:
    """As `Interface.batch`: all but the first sequence are padded."""
    return random_batches([(setting.batch, setting.sequence_length)], vocabulary, list(INPUTS), seed=setting.seed)[0]


def beside(path: Path, setting: Setting, row: dict[str, Any]) -> dict[str, Any]:
    """As `Interface.beside`: nothing."""
    return {}
