"""Results of a run → report.json, report.md and one self-contained report.html."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import distributed, interfaces, models, naming
from ..costs import flops
from ..errors import UserError
from ..evaluation import parity, shares
from ..progress import step
from ..reporting import devices, figures, render
from ..store import folders, lineage, lock, results, watch
from ..store.manifest import ExportManifest, FinetuneManifest, PruneManifest
from . import benchmark, validate

SCHEMA = 1
DEVICES = "devices.json"
"""In the export folder, beside its other results: what was measured on devices, so that later reports show it, too."""


@dataclass(frozen=True)
class Chain:
    """What a report is of."""

    tuned: FinetuneManifest
    pruned: PruneManifest
    pruned_folder: Path
    exported: ExportManifest
    folder: Path
    """Of the export."""


@distributed.in_main
@lock.exclusive("run")
@watch.steady("run")
def report(run: Path, add: list[Path]) -> Path:
    """Write the report of `run` into it: a run's folder, or a validated and benchmarked export folder.

    It names models and data, and holds no path of this machine.
    `add` are files that a bundle's bench.py wrote on a device; this report and later ones show what is in them.
    """
    folder = run if (run / folders.MANIFEST).is_file() else run / "export"
    watch.also(folder)
    manifest = ExportManifest.read(folder)
    made = {described.stage: path for path, described in lineage.to_first(folder, manifest)}
    missing = [stage for stage in ("finetune", "prune") if stage not in made]
    if missing:
        raise UserError(
            f"{folder} cannot be reported on: a report compares a pruned model with the one before, and the "
            f"{' and '.join(missing)} folder is not, or no longer, among what it was made from"
        )
    validation = _result(folder, validate.RESULT, "validate")
    if "not_validated" not in validation:
        raise UserError(
            f"{folder / validate.RESULT} is of an earlier version, which asked fp16 in fp32; "
            f"run dsee-compress validate {folder} again"
        )
    measured = _result(folder, benchmark.RESULT, "benchmark")
    _require_all(folder, manifest, validation, measured)
    export = lineage.fingerprint(folder)
    measured_elsewhere = devices.together(folder / DEVICES, add, export)
    chain = Chain(
        FinetuneManifest.read(made["finetune"]), PruneManifest.read(made["prune"]), made["prune"], manifest, folder
    )
    with step("write the report"):
        content = compose(chain, validation, measured)
        content |= {"export": export, "devices": measured_elsewhere}
        markdown, html = render.markdown(content), render.html(content, figures.draw(content))
        watch.require_steady()
        if add:
            folders.write_json(folder / DEVICES, {"key": {"folder": export}, "devices": measured_elsewhere})
        folders.write_json(run / "report.json", content)
        folders.write_text(run / "report.md", markdown)
        folders.write_text(run / "report.html", html)
    return run


def _require_all(folder: Path, manifest: ExportManifest, validation: dict[str, Any], measured: dict[str, Any]) -> None:
    """UserError unless the results tell of all that a report shows."""
    if not {"dense_finetuned", "pruned"} <= validation["accuracy"].keys():
        raise UserError(
            f"{folder / validate.RESULT} knows nothing of what the folder was made from; run dsee-compress validate "
            f"{folder} again"
        )
    sizes = {row["artifact"] for row in measured["size"]}
    if not benchmark.name_artifacts(folder, manifest).keys() <= sizes:
        raise UserError(
            f"{folder / benchmark.RESULT} does not tell of all artifacts; run dsee-compress benchmark {folder} again"
        )


def compose(chain: Chain, validation: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    """The content of report.json (DESIGN section 9) but for the devices."""
    tuned, pruned, exported = chain.tuned, chain.pruned, chain.exported
    content = {
        "schema": SCHEMA,
        "task": {
            "name": Path(tuned.task.data).name,
            "kind": tuned.task.name,
            "metric": validation["metric"],
            "split": validation["split"],
            "labels": len(tuned.task.labels),
            "validation_examples": validation["examples"],
        },
        "model": {"base": naming.named(tuned.base), "architecture": tuned.architecture},
        "training": {
            "trainable_parameters": tuned.metrics.trainable_parameters,
            "trainable_fraction": tuned.metrics.trainable_fraction,
            "task_head_parameters": tuned.metrics.task_head_parameters,
            "seconds": tuned.metrics.training.seconds,
            "retune_seconds": pruned.metrics.training.seconds,
            "device": tuned.metrics.training.device,
            "seed": tuned.seed,
        },
        "structure": {
            "heads": pruned.structure.head_counts,
            "neurons": pruned.structure.neuron_counts,
            "weight_sparsity": pruned.metrics.weight_sparsity,
            "dense_heads": tuned.structure.head_counts,
            "dense_neurons": tuned.structure.neuron_counts,
            "kept_heads": pruned.structure.heads,
        },
        "ordered": measured.get("cost"),
        "cost": _cost(chain, measured["key"]["config"]["sequence_length"][0]),
        "parity": _parity(chain, validation),
        "accuracy": validation["accuracy"],
        "other_metrics": validation["other_metrics"],
        "gates": validation["gates"],
        "providers": validation["providers"],
        "not_validated": validation["not_validated"],
        "readers": validation.get("readers", []),
        "latency": measured["latency"],
        "latency_grid": measured["grid"],
        "latency_not_measured": measured["not_measured"],
        "target": {"name": naming.named(exported.config["target"]), **exported.metrics.target},
        "files": measured["size"],
        "size": _sizes(chain.folder, exported, measured["size"]),
        "vocabulary": _vocabulary(chain.folder, exported, validation),
        "latency_reference": measured["reference"],
        "latency_turns": measured["turns"],
        "environment": measured["environment"],
        "pipeline": [
            {"stage": made.stage, "config": naming.named_options(made.config), "metrics": made.metrics.model_dump()}
            for made in (tuned, pruned, exported)
        ],
    }
    return content | interfaces.of(tuned.architecture).in_report(tuned, pruned, exported, validation)


def _cost(chain: Chain, length: int) -> dict[str, Any]:
    """Parameters and FLOPs of the dense and the final model, of a sequence of `length` tokens."""
    tuned, pruned = chain.tuned, chain.pruned
    trimmed, narrowed = chain.exported.metrics.vocabulary, chain.exported.metrics.narrowed
    return {
        "parameters": {
            "dense": tuned.metrics.base_parameters + tuned.metrics.task_head_parameters,
            "final": pruned.metrics.parameters - (trimmed.parameters_removed if trimmed else 0),
        },
        "flops": flops.compare(
            models.config_of(chain.pruned_folder),
            tuned.structure,
            pruned.structure,
            length,
            reads="first token" if narrowed.nodes > 0 else "all tokens",
            one_query=narrowed.attention > 0,
        ).model_dump(),
    }


def _parity(chain: Chain, validation: dict[str, Any]) -> dict[str, Any]:
    """How far models differ that should be the same, over all comparisons."""
    pruned = chain.pruned.metrics
    # Without an fp32 artifact there is only the comparison that the export made before it was removed.
    proofs = [chain.exported.metrics.model_dump(), *([validation["parity"]] if validation["parity"] else [])]
    return {
        "merge_max_abs": pruned.merge_max_abs,
        "removal_max_abs": pruned.removal_max_abs,
        "export_max_abs": max(proof["export_max_abs"] for proof in proofs),
        "label_agreement": parity.least_agreement(
            pruned.label_agreement, *(proof["label_agreement"] for proof in proofs)
        ),
    }


def _sizes(folder: Path, exported: ExportManifest, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each part of the model weighs in each file of the export folder; `rest` is the graph and small tensors."""
    total = {row["artifact"]: row["size_mb"] for row in rows}
    sizes = []
    for name, path in benchmark.name_artifacts(folder, exported).items():
        parts = shares.megabytes(path)
        parts["rest"] = total[name] - sum(parts.values())
        described = {part: {"mb": weight, "share": weight / total[name]} for part, weight in parts.items()}
        sizes.append({"artifact": name, "size_mb": total[name], "parts": described})
    return sizes


def _vocabulary(folder: Path, exported: ExportManifest, validation: dict[str, Any]) -> dict[str, Any] | None:
    """How far the vocabulary was trimmed and what that saved in each file; None if it was not.

    `examples_alike` are those whose tokens all stayed.
    """
    trimmed = exported.metrics.vocabulary
    if trimmed is None:
        return None
    before, after = trimmed.before, trimmed.after
    saved = {
        name: shares.vocabulary_megabytes(path, after) * (before - after) / after
        for name, path in benchmark.name_artifacts(folder, exported).items()
    }
    return {
        "before": before,
        "after": after,
        "saved_mb": saved,
        "examples_alike": validation["examples_alike"],
    }


def _result(folder: Path, name: str, command: str) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        raise UserError(f"{folder} has no {name}; run dsee-compress {command} {folder} first")
    try:
        content = results.read(path)
    except ValueError as error:
        raise UserError(f"{path} is damaged; run dsee-compress {command} {folder} again") from error
    if content["key"]["folder"] != lineage.fingerprint(folder):
        raise UserError(f"{path} is of an earlier content of its folder; run dsee-compress {command} {folder} again")
    return content
