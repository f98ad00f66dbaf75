"""The metrics of a stage folder and of all that it was made from, and the gates between them."""

from pathlib import Path
from typing import Any

import numpy as np

from .. import checkpoint, distributed, tasks
from ..adapters import model as adapters
from ..checkpoint import Manifest
from ..configs import MetricName, ValidateConfig
from ..errors import GateError
from ..evaluation import inputs, metrics, parity, session
from ..evaluation.inputs import Batch, Logits
from ..evaluation.metrics import Sampled
from ..progress import console, step
from ..reporting import wording
from ..tasks import data
from . import common
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
    tokenizer = common.tokenizer_of(folder)
    with step("read the data"):
        rows = tasks.encode(task, config.split, tokenizer)
        batches = inputs.padded_batches(rows, tasks.collator(tokenizer), config.batch_size)
    logits = _logits_of_lineage(folder, manifest, batches)

    labels = np.array(rows["labels"])
    predictions = {name: tasks.of(task).predictions(values) for name, values in logits.items()}
    own, *others = metrics.of(task).items()
    sampled = metrics.bootstrap(own[1], predictions, labels, seed=config.seed)
    proofs = _export_proof(logits)
    gates = _metric_gates(task.metric, sampled, config)
    result = {
        "key": key,
        "metric": task.metric,
        "split": config.split,
        "examples": len(labels),
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


def _logits_of_lineage(folder: Path, manifest: Manifest, batches: list[Batch]) -> dict[str, Logits]:
    logits = {}
    chain = lineage(folder, manifest)
    if chain[0][1].parent is not None:
        console.print(f"{chain[0][0]}: its parent folder is gone or changed; measuring without it", markup=False)
    for source, described in chain:
        if described.stage == "export":
            for precision, path in artifacts(source, described).items():
                with step(f"predict with onnx_{precision}"), session.Session(path) as live:
                    logits[f"onnx_{precision}"] = metrics.predict(live.forward, batches)
        else:
            name = TORCH_NAMES[described.stage]
            with step(f"predict with {name}"):
                logits[name] = metrics.predict(parity.torch_forward(adapters.load_merged(source)), batches)
    return logits


def _export_proof(logits: dict[str, Logits]) -> dict[str, float | None]:
    """The export gate again, on the task's own rows."""
    reference = next((logits[name] for name in ("pruned", "dense_finetuned") if name in logits), None)
    if reference is None or "onnx_fp32" not in logits:
        return {}
    proof = parity.passed(parity.EXPORT, [reference], [logits["onnx_fp32"]])
    return {"export_max_abs": proof.max_abs, "label_agreement": proof.label_agreement}


def _metric_gates(metric: MetricName, sampled: dict[str, Sampled], config: ValidateConfig) -> list[dict[str, Any]]:
    """The precision and the compression gate, as far as their models are among `sampled`."""
    words = wording.METRICS[metric]
    full_precision = next((name for name in ("onnx_fp32", "pruned", "dense_finetuned") if name in sampled), None)
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
