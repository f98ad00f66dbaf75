"""The metrics of a stage folder and of all that it was made from, and the gates between them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from .. import checkpoint, distributed, tasks
from ..adapters import model as adapters
from ..checkpoint import Manifest, Task
from ..configs import MetricName, ValidateConfig
from ..errors import GateError
from ..evaluation import inputs, metrics, parity, session
from ..evaluation.inputs import Batch, Logits
from ..evaluation.metrics import Sampled
from ..progress import console, step
from ..reporting import wording
from ..tasks import data
from . import common, vocabulary
from .export import artifacts

RESULT = "validation.json"
TORCH_NAMES = {"finetune": "dense_finetuned", "prune": "pruned"}


@distributed.in_main
def validate(folder: Path, config: ValidateConfig, overwrite: bool = False) -> Path:
    """Measure every model on the way to `folder` on the same rows; write `validation.json` into it.

    Raises GateError, with the figures, if ONNX Runtime and PyTorch differ, if a precision costs more than
    `max_drop`, or if the whole way costs more than `max_compression_drop`; nothing is written then.
    """
    manifest = checkpoint.read(folder, "finetune", "prune", "export")
    if manifest.stage == "export":
        session.runtime()
    task = manifest.task.model_copy(update={"data": data.locate(config.data or manifest.task.data)})
    key = {
        "config": config.resolved() | {"data": task.data},
        "folder": checkpoint.fingerprint(folder),
        "data": data.fingerprint(task.data, config.split),
    }
    if not overwrite and checkpoint.has_result(folder / RESULT, key):
        return folder
    chain = lineage(folder, manifest)
    with step("read the data"):
        texts = {
            trimmed: _Texts.read(task, config, common.tokenizer_of(source))
            for trimmed, source in {vocabulary.is_trimmed(described): source for source, described in chain}.items()
        }
    logits = _logits_of_lineage(chain, texts)

    trimmed = vocabulary.is_trimmed(manifest)
    own_texts = texts[trimmed]
    labels = own_texts.labels
    predictions = {name: tasks.of(task).predictions(values) for name, values in logits.items()}
    own, *others = metrics.of(task).items()
    sampled = metrics.bootstrap(own[1], predictions, labels, seed=config.seed)
    alike = own_texts.read_alike(texts.get(False, own_texts))
    proofs = _export_proof(logits, alike)
    gates = _metric_gates(task.metric, sampled, config, trimmed)
    result = {
        "key": key,
        "metric": task.metric,
        "split": config.split,
        "examples": len(labels),
        "examples_alike": int(alike.sum()),
        "accuracy": {name: figures.interval.as_json() for name, figures in sampled.items()},
        "other_metrics": {
            name: {other: metric.value(values, labels) for other, metric in others}
            for name, values in predictions.items()
        },
        "parity": proofs,
        "gates": gates,
        "predictions": {name: values.tolist() for name, values in predictions.items()},
    }
    checkpoint.write_json(folder / RESULT, result)
    return folder


def lineage(folder: Path, manifest: Manifest) -> list[tuple[Path, Manifest]]:
    """`folder` and what it was made from, first to last, as far as it is still there."""
    chain = [(folder, manifest)]
    while chain[0][1].parent is not None:
        parent = checkpoint.parent_of(*chain[0])
        if parent is None:
            break
        chain.insert(0, (parent, checkpoint.read(parent)))
    return chain


@dataclass(frozen=True)
class _Texts:
    """The rows of a split in the tokens of one vocabulary."""

    tokenizer: PreTrainedTokenizerBase
    rows: Any
    batches: list[Batch]

    @classmethod
    def read(cls, task: Task, config: ValidateConfig, tokenizer: PreTrainedTokenizerBase) -> Self:
        rows = tasks.encode(task, config.split, tokenizer)
        return cls(tokenizer, rows, inputs.padded_batches(rows, tasks.collator(tokenizer), config.batch_size))

    @property
    def labels(self) -> NDArray[Any]:
        """What the rows should be answered with, (rows,)."""
        return np.array(self.rows["labels"])

    def read_alike(self, other: Self) -> NDArray[np.bool_]:
        """Which rows have the same tokens in both vocabularies, (rows,)."""
        if other is self:
            return np.ones(len(self.rows), bool)
        both = zip(self.rows["input_ids"], other.rows["input_ids"], strict=True)
        ours, theirs = self.tokenizer.convert_ids_to_tokens, other.tokenizer.convert_ids_to_tokens
        return np.array([ours(left) == theirs(right) for left, right in both])


def _logits_of_lineage(chain: list[tuple[Path, Manifest]], texts: dict[bool, _Texts]) -> dict[str, Logits]:
    """The logits of every model in `chain`, on the rows in the tokens of its own vocabulary, trimmed or not."""
    logits = {}
    if chain[0][1].parent is not None:
        console.print(f"{chain[0][0]}: its parent folder is gone or changed; measuring without it", markup=False)
    for source, described in chain:
        batches = texts[vocabulary.is_trimmed(described)].batches
        if described.stage == "export":
            for precision, path in artifacts(source, described).items():
                with step(f"predict with onnx_{precision}"), session.Session(path) as live:
                    logits[f"onnx_{precision}"] = metrics.predict(live.forward, batches)
        else:
            name = TORCH_NAMES[described.stage]
            with step(f"predict with {name}"):
                logits[name] = metrics.predict(parity.torch_forward(adapters.load_merged(source)), batches)
    return logits


def _export_proof(logits: dict[str, Logits], alike: NDArray[np.bool_]) -> dict[str, float | None]:
    """The export gate again, on the task's own rows that both models read as the same tokens."""
    reference = next((logits[name] for name in ("pruned", "dense_finetuned") if name in logits), None)
    if reference is None or "onnx_fp32" not in logits or not alike.any():
        return {}
    proof = parity.passed(parity.EXPORT, [reference[alike]], [logits["onnx_fp32"][alike]])
    return {
        "export_max_abs": proof.max_abs,
        "label_agreement": proof.label_agreement,
    }


def _metric_gates(
    metric: MetricName, sampled: dict[str, Sampled], config: ValidateConfig, trimmed: bool
) -> list[dict[str, Any]]:
    """The precision and the compression gate, as far as their models are among `sampled`.

    trimmed: whether the artifacts have a smaller vocabulary, which may cost what a precision may: all of them, fp32
    too, are then compared with the model before.
    """
    words = wording.METRICS[metric]
    order = ("pruned", "dense_finetuned", "onnx_fp32") if trimmed else ("onnx_fp32", "pruned", "dense_finetuned")
    full_precision = next((name for name in order if name in sampled), None)
    exported = [name for name in sampled if name.startswith("onnx_")]
    finals = exported or [name for name in sampled if name == "pruned"]
    gates = []
    for gate, reference, candidate, allowed in (
        *(("precision", full_precision, lower, config.max_drop) for lower in exported if lower != full_precision),
        *(("compression", "dense_finetuned", final, config.max_compression_drop) for final in finals),
    ):
        if reference not in sampled or candidate not in sampled:
            continue
        change = (sampled[candidate] - sampled[reference]).interval
        verdict = metrics.judge(change, allowed)
        if verdict == "failed":
            raise GateError(
                f"gate {gate!r} failed: the {words.title} of {candidate} is {words.figure(-change.value)} below that "
                f"of {reference} (95 % interval of the change {words.figure(change.low, '+')} to "
                f"{words.figure(change.high, '+')}, allowed drop {words.figure(allowed)})"
            )
        gates.append(
            {
                "gate": gate,
                "reference": reference,
                "candidate": candidate,
                "change": change.as_json(),
                "allowed_drop": allowed,
                "verdict": verdict,
            }
        )
    return gates
