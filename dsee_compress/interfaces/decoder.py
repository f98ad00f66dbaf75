"""A decoder as ONNX: a language model that generates."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from .. import architectures, tasks, weights
from ..configs import Graph, ValidateConfig
from ..errors import GateError
from ..evaluation import parity
from ..evaluation.generator import OnnxGenerator
from ..evaluation.inputs import INPUTS, Batch, Forward, Logits, random_prompts
from ..evaluation.latency import Phase, Setting
from ..evaluation.parity import Parity
from ..exporting import decoder_graph, fusion, unfit
from ..exporting.fusion import NodeCount
from ..exporting.precision import DECODER as PASSES
from ..store.manifest import ExportManifest, Manifest
from ..tasks import Collator, Spec, Task
from . import writing
from .examination import Examination, Likelihoods, Texts

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

TORCH_ON_CARD = True

UNSEEN_SHAPES = [(1, 1), (1, 12), (3, 31), (4, 7), (2, 100)]
"""Batch and length of the prompts on which the export gate compares; none is what the exporter traced."""
STEPS = 4
"""Tokens after a prompt, one at a time."""


def require_exportable(config: PretrainedConfig, where: str) -> None:
    """As `Interface.require_exportable`: nothing that the family's table does not say."""


def settle(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, where: str) -> list[str]:
    """As `Interface.settle`: padding is masked, so that the end of a text does where there is no token for it."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    config.pad_token_id = tokenizer.pad_token_id
    return []


def in_report(
    tuned: Manifest, pruned: Manifest, exported: ExportManifest, validation: dict[str, Any]
) -> dict[str, Any]:
    """As `Interface.in_report`: how it wrote, what it remembers of a token, and some of its texts."""
    return {"writing": writing.describe(tuned, pruned, exported, validation)}


def describe(graph: Graph) -> str:
    """As `Interface.describe`."""
    return "export " + ("in ONNX Runtime's operators" if graph == "fused" else "in standard operators")


def to_onnx(
    model: PreTrainedModel, graph: Graph, opset: int, provider: str, given: Collection[str] = INPUTS
) -> tuple[Any, dict[str, Any]]:
    """As `Interface.to_onnx`: says how large what is remembered of a token is, in bytes of fp32."""
    values = sum(2 * layer.heads * layer.head_size for layer in architectures.layers(model))
    return decoder_graph.to_onnx(model, graph, opset), {"memory_bytes_per_token": 4 * values}


def require_fused(model: PreTrainedModel, written: Any, name: str) -> NodeCount:
    """As `Interface.require_fused`: one attention node a layer, and nothing left of attention or GELU in parts."""
    layers, found = len(architectures.layers(model)), fusion.count_nodes(written)
    if found.attention != layers or found.unfused:
        raise GateError(
            f"gate 'fusion' failed: {name} has {found.attention} attention nodes for {layers} layers, "
            f"and {found.unfused} Softmax and Erf nodes that stayed unfused{unfit.told(written)}"
        )
    return found


def prove(model: PreTrainedModel, path: Path, task: Task[Any]) -> Parity:
    """As `Interface.prove`: logits of every token of left-padded prompts, read at once and with STEPS one at a time.

    So are the logits of the last token alone. The tokens with the largest logits are the same, so that greedy text is.
    """
    longest = architectures.longest_input(model.config)
    shapes = [(batch, min(length + STEPS, longest)) for batch, length in UNSEEN_SHAPES]
    prompts, forward = random_prompts(shapes, model.config.vocab_size), parity.torch_forward(model)
    answers = [forward(batch) for batch in prompts]
    weights.release(model)
    wanted, found = [], []
    with OnnxGenerator(path) as live:
        for batch, logits in zip(prompts, answers, strict=True):
            real = batch["attention_mask"] == 1
            for steps in (0, STEPS):
                wanted.append(logits[real])
                found.append(_read(live, batch, steps)[real])
            tokens, mask = (torch.as_tensor(batch[name]) for name in ("input_ids", "attention_mask"))
            wanted.append(logits[:, -1])
            found.append(live.forward(tokens, mask, logits_to_keep=1).logits[:, 0].numpy())
    return parity.passed(parity.EXPORT, wanted, found)


def examine(task: Spec, split: str, tokenizer: PreTrainedTokenizerBase, config: ValidateConfig) -> Examination:
    """As `Interface.examine`: of the texts that are written, and of the likelihood of the references."""
    rows, collator = tasks.encode(task, split, tokenizer), tasks.of(task).collator(tokenizer)
    return Texts(task, split, tokenizer, rows, collator, config)


def examine_quickly(task: Spec, rows: Any, collator: Collator, batch_size: int) -> Examination:
    """As `Interface.examine_quickly`: the likelihood of the references."""
    return Likelihoods(task, rows, collator, batch_size)


def _read(live: OnnxGenerator, batch: Batch, steps: int) -> Logits:
    """Logits (batch, tokens, vocabulary), of which the last `steps` tokens are read one at a time."""
    length = batch["input_ids"].shape[1]
    ends = [length - steps, *range(length - steps + 1, length + 1)]
    logits, memory, start = [], None, 0
    for end in ends:
        answer = live.forward(
            torch.as_tensor(batch["input_ids"][:, start:end]),
            torch.as_tensor(batch["attention_mask"][:, :end]),
            past_key_values=memory,
        )
        logits.append(answer.logits.numpy())
        memory, start = answer.past_key_values, end
    return np.concatenate(logits, axis=1)


def require_length(config: PretrainedConfig, length: int, new_tokens: int, section: str) -> None:
    """As `Interface.require_length`: of a prompt, and of the tokens after it."""
    architectures.require_length(config, f"{section}sequence_length", length)
    both = f"{section}sequence_length and {section}new_tokens, in sum"
    architectures.require_length(config, both, length + new_tokens)


def batch(vocabulary: int, setting: Setting) -> Batch:
    """As `Interface.batch`: one prompt without padding, as often as the batch is large."""
    prompt = random_prompts([(1, setting.sequence_length)], vocabulary, seed=setting.seed)[0]
    return {name: np.repeat(array, setting.batch, axis=0) for name, array in prompt.items()}


def beside(path: Path, setting: Setting, row: dict[str, Any]) -> dict[str, Any]:
    """As `Interface.beside`: the names that figures of writing go by, and what is remembered of a token."""
    with OnnxGenerator(path, setting.provider, setting.threads) as live:
        remembered = live.bytes_per_token
    return {
        "new_tokens": setting.new_tokens,
        "time_to_first_token_ms": row["p50_ms"],
        "decode_ms_per_token": row["decode"]["p50_ms"],
        "tokens_per_second": row["decode"]["throughput"],
        "memory_bytes_per_token": remembered,
    }


@contextmanager
def _prompts(path: Path, setting: Setting, _: Batch) -> Iterator[Forward]:
    """Calls that read the batch from its beginning; their answer is the first new token."""
    with OnnxGenerator(path, setting.provider, setting.threads) as live:

        def forward(batch: Batch) -> Logits:
            answer = live.forward(torch.as_tensor(batch["input_ids"]), logits_to_keep=1)
            logits: Logits = answer.logits.numpy(force=True)
            return logits

        yield forward


@contextmanager
def _steps(path: Path, setting: Setting, batch: Batch) -> Iterator[Forward]:
    """Calls that each add the batch's last token to what is remembered of it.

    They begin behind the prompt, and again behind it after the setting's number of new tokens.
    """
    with OnnxGenerator(path, setting.provider, setting.threads) as live:
        tokens = torch.as_tensor(batch["input_ids"])
        prompt = memory = live.forward(tokens).past_key_values
        last = tokens[:, -1:].contiguous()

        def forward(_: Batch) -> Logits:
            nonlocal memory
            if memory.get_seq_length() == setting.sequence_length + setting.new_tokens:
                memory = prompt
            answer = live.forward(last, past_key_values=memory)
            memory = answer.past_key_values
            logits: Logits = answer.logits.numpy(force=True)
            return logits

        yield forward


PHASES = (Phase("prompt", None, _prompts), Phase("step", "decode", _steps))
