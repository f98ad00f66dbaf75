"""The metrics of a stage folder and of all that it was made from, and the gates between them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from .. import data, distributed, interfaces, tasks
from ..adapters import model as adapters
from ..configs import Precision, ValidateConfig
from ..errors import GateError
from ..evaluation import bootstrap, environment, parity, readers, session
from ..evaluation.bootstrap import Sampled
from ..evaluation.inputs import Logits
from ..interfaces import examination
from ..interfaces.examination import Answers, Examination
from ..metrics import METRICS, Metric
from ..progress import step, tell
from ..store import folders, lineage, lock, watch
from ..store.manifest import ExportManifest, Manifest
from ..tasks import Spec
from . import common, places, vocabulary
from .export import artifacts
from .places import Place

RESULT = "validation.json"
TORCH_NAMES = {"finetune": "dense_finetuned", "prune": "pruned"}


@distributed.in_main
@lock.exclusive("folder")
@watch.steady("folder")
def validate(folder: Path, config: ValidateConfig, overwrite: bool = False) -> Path:
    """Measure every model on the way to `folder` on the same rows; write `validation.json` into it.

    Raises GateError, with the figures, if ONNX Runtime and PyTorch differ, if a precision costs more than
    `max_drop`, if the whole way costs more than `max_compression_drop`, or if another library that is installed
    (`readers`) answers otherwise; nothing is written then. An artifact that this machine does not run as its target
    does (`places`) is not asked, and its gates say so.
    """
    manifest = Manifest.read(folder, "finetune", "prune", "export")
    asked = {}
    if isinstance(manifest, ExportManifest):
        session.runtime()
        asked = places.of_artifacts(manifest)
    task = manifest.task.model_copy(update={"data": data.locate(config.data or manifest.task.data)})
    chain, trimmed = lineage.to_first(folder, manifest), vocabulary.is_trimmed(manifest)
    read = data.fingerprint(task.data, config.split)
    key = {
        "config": config.resolved() | {"data": task.data},
        "folder": lineage.fingerprint(folder),
        "lineage": [made.stage for _, made in chain],
        "data": read,
        "places": {name: [*place] for name, place in asked.items()},
    }
    if isinstance(manifest, ExportManifest):
        key |= environment.of_answers() | {"readers": readers.installed()}
    if not overwrite and common.measured_here(folder / RESULT, key):
        return folder
    with step("read the data"):
        interface = interfaces.of(manifest.architecture)
        tokenizers = {vocabulary.is_trimmed(made): common.tokenizer_of(source) for source, made in chain}
        exams = {kind: interface.examine(task, config.split, own, config) for kind, own in tokenizers.items()}
        exam, alike = exams[trimmed], vocabulary.read_alike(task, config.split, tokenizers)
        data.require_unchanged(read, task.data, config.split)
        common.tell_read(**{config.split: exam.rows})
    for name, obstacle in _missing(asked).items():
        tell(f"{name} is {places.VERDICT}: {obstacle}")
    answers = _answers_of_lineage(chain, exams, asked)
    measured = _measured(exam, answers, alike, config, task, trimmed, asked)
    read_by = _readers(folder, manifest, task, config, tokenizers[trimmed], asked)
    watch.require_steady()
    folders.write_json(folder / RESULT, {"key": key, **measured, "readers": read_by})
    return folder


def _readers(
    folder: Path,
    manifest: Manifest,
    task: Spec,
    config: ValidateConfig,
    tokenizer: PreTrainedTokenizerBase,
    asked: dict[str, Place],
) -> list[dict[str, Any]]:
    """What the other libraries that load an export make of its first artifact for the CPU; GateError as `validate`."""
    on_cpu = [name for name, place in asked.items() if place == Place("cpu")]
    if not isinstance(manifest, ExportManifest) or not on_cpu:
        return []
    kind, artifact = tasks.of(task), on_cpu[0]
    named = {f"onnx_{precision}": path for precision, path in artifacts(folder, manifest).items()}
    texts = kind.texts(task, config.split, readers.TEXTS)
    with step("compare with other readers"):
        return readers.compare(
            readers.Question(folder, named[artifact], kind.head, tokenizer, manifest.task.max_length, texts), artifact
        )


def _missing(asked: dict[str, Place]) -> dict[str, str]:
    """What keeps this machine from asking some artifacts, by their names."""
    return {name: place.obstacle for name, place in asked.items() if place.obstacle}


def _measured(
    exam: Examination,
    answers: dict[str, Answers],
    alike: NDArray[Any] | None,
    config: ValidateConfig,
    task: Spec,
    trimmed: bool,
    asked: dict[str, Place],
) -> dict[str, Any]:
    """The content of validation.json but for its key; GateError as `validate`."""
    missing = _missing(asked)
    predictions = {name: answer.predictions for name, answer in answers.items()}
    own, *others = exam.metrics.items()
    sampled = bootstrap.bootstrap(own[1], predictions, exam.truth, seed=config.seed)
    # A card rounds what goes into fp32 products (TF32), so what differs there is not the graph's.
    comparable = asked.get("onnx_fp32", Place("cpu")).provider == "cpu"
    unchanged = None if alike is None else exam.unchanged(alike)
    comparable = comparable and (alike is None or unchanged is not None)
    logits = {name: answer.logits for name, answer in answers.items()}
    proofs = _export_proof(logits, unchanged, tasks.of(task).one_of_several) if comparable else {}
    gates = _metric_gates(METRICS[task.metric], sampled, config, trimmed, missing)
    return {
        "metric": task.metric,
        "split": config.split,
        "examples": exam.examples,
        "examples_alike": exam.examples if alike is None else int(alike.sum()),
        "accuracy": {name: figures.interval.as_json() for name, figures in sampled.items()},
        "other_metrics": {
            name: {other: metric.value(values, exam.truth) for other, metric in others}
            for name, values in predictions.items()
        },
        "parity": proofs,
        "gates": gates,
        "providers": {name: place.provider for name, place in asked.items() if name not in missing},
        "not_validated": missing,
        "predictions": {name: exam.as_json(values) for name, values in predictions.items()},
    }


def _answers_of_lineage(
    chain: list[tuple[Path, Manifest]], exams: dict[bool, Examination], asked: dict[str, Place]
) -> dict[str, Answers]:
    """The answers of every model in `chain` that this machine can ask, in the tokens of its own vocabulary."""
    answers = {}
    if chain[0][1].parent is not None:
        tell(f"{chain[0][0]}: its parent folder is gone or changed; measuring without it")
    for source, described in chain:
        exam = exams[vocabulary.is_trimmed(described)]
        if isinstance(described, ExportManifest):
            for precision, path in artifacts(source, described).items():
                name = f"onnx_{precision}"
                if asked[name].obstacle:
                    continue
                with step(f"predict with {name}"), exam.artifact(path, asked[name].provider) as subject:
                    answers[name] = exam.answers(subject)
        else:
            name = TORCH_NAMES[described.stage]
            with step(f"predict with {name}"):
                answers[name] = exam.answers(examination.subject_of(adapters.load_merged(source)))
    return answers


def _export_proof(logits: dict[str, Logits], unchanged: NDArray[Any] | None, labelled: bool) -> dict[str, float | None]:
    """The export gate again, on the task's own rows; on the `unchanged` logits where the vocabularies differ."""
    reference = next((logits[name] for name in ("pruned", "dense_finetuned") if name in logits), None)
    if reference is None or "onnx_fp32" not in logits or (unchanged is not None and not unchanged.any()):
        return {}
    rows = slice(None) if unchanged is None else unchanged
    proof = parity.passed(parity.EXPORT, [reference[rows]], [logits["onnx_fp32"][rows]], labelled=labelled)
    return {"export_max_abs": proof.max_abs, "label_agreement": proof.label_agreement}


def _metric_gates(
    metric: Metric,
    sampled: dict[str, Sampled],
    config: ValidateConfig,
    trimmed: bool,
    missing: Iterable[str] = (),
) -> list[dict[str, Any]]:
    """The precision and the compression gate, as far as their models are among `sampled`, or `missing`.

    trimmed: whether the artifacts have a smaller vocabulary, which may cost what a precision may: all of them, fp32
    too, are then compared with the model before. missing: artifacts that this machine cannot ask, of which a gate
    gives no verdict but that.
    """
    order = ("pruned", "dense_finetuned", "onnx_fp32") if trimmed else ("onnx_fp32", "pruned", "dense_finetuned")
    full_precision = next((name for name in order if name in sampled), None)
    measured_or_missing = {*sampled, *missing}
    exported = [name for name in map("onnx_{}".format, get_args(Precision)) if name in measured_or_missing]
    finals = exported or [name for name in sampled if name == "pruned"]
    gates = []
    for gate, reference, candidate, allowed in (
        *(("precision", full_precision, lower, config.max_drop) for lower in exported if lower != full_precision),
        *(("compression", "dense_finetuned", final, config.max_compression_drop) for final in finals),
    ):
        if reference not in sampled or candidate not in measured_or_missing:
            continue
        described: dict[str, Any] = {"gate": gate, "reference": reference, "candidate": candidate}
        if candidate not in sampled:
            gates.append(described | {"change": None, "allowed_drop": allowed, "verdict": places.VERDICT})
            continue
        change = (sampled[candidate] - sampled[reference]).interval
        verdict = bootstrap.judge(-change if metric.lower_is_better else change, allowed)
        if verdict == "failed":
            raise GateError(
                f"gate {gate!r} failed: the {metric.title} of {candidate} is {_apart(metric, change.value)} that "
                f"of {reference} (95 % interval of the change {metric.figure(change.low, '+')} to "
                f"{metric.figure(change.high, '+')}, allowed drop {metric.figure(allowed)})"
            )
        gates.append(described | {"change": change.as_json(), "allowed_drop": allowed, "verdict": verdict})
    return gates


def _apart(metric: Metric, change: float) -> str:
    return f"{metric.figure(abs(change))} {'above' if change > 0 else 'below'}"
