"""Who runs in the latency benchmark: our exports, and what Optimum and PyTorch make of the same dense model."""

import io
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

import dsee_compress
from dsee_compress import loading, pretrained
from dsee_compress.evaluation import latency, parity
from dsee_compress.evaluation.inputs import Batch, Forward
from dsee_compress.stages.export import artifacts
from dsee_compress.store import folders
from dsee_compress.store.manifest import ExportManifest, PruneManifest
from dsee_compress.store.structure import Structure
from dsee_compress.tasks import Reads

from . import finetune

PLAIN, OPTIMIZED, PYTORCH = "Optimum, fp32", "Optimum, fp32, -O2", "PyTorch, fp32"
INSTRUCTIONS = ("avx512_vnni", "avx2")
"""What Optimum quantises for: VNNI, and what a user takes who has none."""
CUTS: dict[str, dict[str, Any]] = {
    "": {"heads": 0.0, "neurons": 0.0},
    ", 25 %": {"flops_saved": 0.25},
    ", 40 %": {"flops_saved": 0.40},
}


@dataclass(frozen=True)
class Contestant:
    """A model file, and what a forward pass of it consists of."""

    file: Path
    structure: Structure
    reads: Reads = "all tokens"
    """What its last layer computes."""

    def open(self, setting: latency.Setting) -> AbstractContextManager[Forward]:
        """The model, loaded for one block."""
        if self.file.suffix == ".onnx":
            return latency.onnx_forward(self.file, setting)
        return _pytorch(self.file.parent, setting.threads)


@contextmanager
def _pytorch(folder: Path, threads: int) -> Iterator[Forward]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, attn_implementation="sdpa", trust_remote_code=False
        )
        yield parity.torch_forward(model.eval())
    finally:
        torch.set_num_threads(before)


def make(model: str, work: Path) -> dict[str, Contestant]:
    """Every contestant, from the pretrained `model`, in the order of the table; what is there is not made again.

    The weights are those of `model` under a head of two labels; what is removed is drawn, since time does not depend
    on it.
    """
    tuned = dsee_compress.finetune(
        model=model, data=str(data(work / "data")), output=work / "finetune", epochs=1, decomposition="random"
    )
    cut = {
        name: dsee_compress.prune(tuned, output=work / f"cut{number}", criterion="random", retune_epochs=0, **goal)
        for number, (name, goal) in enumerate(CUTS.items())
    }
    found = _peers(cut[""], work)
    exported = {name: dsee_compress.export(folder, output=work / f"{folder.name}-onnx") for name, folder in cut.items()}
    for precision in ("fp32", "int8"):
        for name, folder in exported.items():
            manifest = ExportManifest.read(folder)
            file = artifacts(folder, manifest)[precision]
            reads: Reads = "first token" if manifest.metrics.narrowed.nodes > 0 else "all tokens"
            found[f"ours, {precision}{name}"] = Contestant(file, manifest.structure, reads)
    return found


def _peers(dense: Path, work: Path) -> dict[str, Contestant]:
    plain = optimum(["export", "onnx", "--model", dense, "--task", "text-classification"], work / "optimum")
    optimized = optimum(["onnxruntime", "optimize", "--onnx_model", plain, "-O2", "-o"], work / "optimum-O2")
    files = {
        PYTORCH: dense / "model.safetensors",
        PLAIN: plain / "model.onnx",
        OPTIMIZED: optimized / "model_optimized.onnx",
    }
    for name in INSTRUCTIONS:
        quantize = ["onnxruntime", "quantize", "--onnx_model", plain, f"--{name}", "-o"]
        files[f"Optimum, int8, --{name}"] = optimum(quantize, work / f"optimum-{name}") / "model_quantized.onnx"
    structure = PruneManifest.read(dense).structure
    return {name: Contestant(file, structure) for name, file in files.items()}


def optimum(arguments: list[Any], output: Path) -> Path:
    """Run optimum-cli, as a user would, with `output` as its last argument, unless that is there.

    It runs in this process, which has imported already what takes it longest.
    """
    from optimum.commands import optimum_cli  # it needs transformers 4.57

    if not output.exists():
        with folders.writing(output, overwrite=False) as folder:
            command = ["optimum-cli", *map(str, arguments), str(folder)]
            with mock.patch.object(sys, "argv", command), redirect_stdout(io.StringIO()):
                optimum_cli.main()
    return output


def require_same_logits(contestants: dict[str, Contestant], batch: Batch, setting: latency.Setting) -> None:
    """Raise GateError unless the dense fp32 contestants answer alike: they are to be the same model."""
    logits = {}
    for name in (PYTORCH, PLAIN, OPTIMIZED, "ours, fp32"):
        with contestants[name].open(setting) as forward:
            logits[name] = forward(batch)
    for name in (PLAIN, OPTIMIZED, "ours, fp32"):
        parity.passed(parity.EXPORT, [logits[PYTORCH]], [logits[name]])


def full_batch(size: int, length: int, vocabulary: int) -> Batch:
    """Random tokens without padding."""
    ids = np.random.default_rng(0).integers(min(1000, vocabulary // 2), vocabulary, size=(size, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def bert_base(folder: Path) -> str:
    """BERT-base's shape with random weights, and MiniLM's tokenizer, which has the same vocabulary."""
    if not folder.exists():
        with folders.writing(folder, overwrite=False) as made:
            finetune.build("bert-base").save_pretrained(made)
            loading.tokenizer_of(Path(pretrained.locate(finetune.MINILM))).save_pretrained(made)
    return str(folder)


def data(folder: Path) -> Path:
    """The least that fine-tuning takes: what is learnt from it changes no time."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation"):
        rows = '{"text": "a good day", "label": "good"}\n{"text": "a bad day", "label": "bad"}\n'
        folders.write_text(folder / f"{split}.jsonl", rows)
    return folder
