"""Results of a run → report.json, report.md and one self-contained report.html."""

from pathlib import Path
from typing import Any

from .. import architectures, checkpoint, distributed, interfaces, naming
from ..checkpoint import Manifest
from ..costs import flops
from ..errors import UserError
from ..evaluation import parity, shares
from ..progress import step
from ..reporting import devices, figures, render
from ..store import lock, results, watch
from . import benchmark, validate, vocabulary

SCHEMA = 1
DEVICES = "devices.json"
"""In the export folder, beside its other results: what was measured on devices, so that later reports show it, too."""


@distributed.in_main
@lock.exclusive("run")
@watch.steady("run")
def report(run: Path, add: list[Path]) -> Path:
    """Write the report of `run` into it: a run's folder, or a validated and benchmarked export folder.

    It names models and data, and holds no path of this machine.
    `add` are files that a bundle's bench.py wrote on a device; this report and later ones show what is in them.
    """
    folder = run if (run / checkpoint.MANIFEST).is_file() else run / "export"
    watch.also(folder)
    manifest = checkpoint.read(folder, "export")
    chain = {described.stage: (path, described) for path, described in validate.lineage(folder, manifest)}
    missing = [stage for stage in ("finetune", "prune") if stage not in chain]
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
    export = checkpoint.fingerprint(folder)
    measured_elsewhere = devices.together(folder / DEVICES, add, export)
    with step("write the report"):
        content = compose(chain, validation, measured)
        content |= {"export": export, "devices": measured_elsewhere}
        markdown, html = render.markdown(content), render.html(content, figures.draw(content))
        watch.require_steady()
        if add:
            checkpoint.write_json(folder / DEVICES, {"key": {"folder": export}, "devices": measured_elsewhere})
        checkpoint.write_json(run / "report.json", content)
        checkpoint.write_text(run / "report.md", markdown)
        checkpoint.write_text(run / "report.html", html)
    return run


def _require_all(folder: Path, manifest: Manifest, validation: dict[str, Any], measured: dict[str, Any]) -> None:
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


def compose(
    chain: dict[Any, tuple[Path, Manifest]], validation: dict[str, Any], measured: dict[str, Any]
) -> dict[str, Any]:
    """The content of report.json (DESIGN section 9) but for the devices."""
    tuned = chain["finetune"][1]
    pruned_folder, pruned = chain["prune"]
    exported = chain["export"][1]
    length = measured["key"]["config"]["sequence_length"][0]
    architecture = checkpoint.model_config(pruned_folder)
    # Without an fp32 artifact there is only the comparison that the export made before it was removed.
    export_proofs = [exported.metrics, *([validation["parity"]] if validation["parity"] else [])]
    dense_parameters = tuned.metrics["base_parameters"] + tuned.metrics["task_head_parameters"]
    narrowed = exported.metrics.get("narrowed", {"nodes": 0, "attention": 0})
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
            **{
                name: tuned.metrics[name]
                for name in ("trainable_parameters", "trainable_fraction", "task_head_parameters")
            },
            "seconds": tuned.metrics["training"]["seconds"],
            "retune_seconds": pruned.metrics["training"].get("seconds", 0.0),
            "device": tuned.metrics["training"]["device"],
            "seed": tuned.seed,
        },
        "structure": {
            "heads": pruned.structure.head_counts,
            "neurons": pruned.structure.neuron_counts,
            "weight_sparsity": pruned.metrics["weight_sparsity"],
            "dense_heads": tuned.structure.head_counts,
            "dense_neurons": tuned.structure.neuron_counts,
            "kept_heads": pruned.structure.heads,
        },
        "cost": {
            "parameters": {
                "dense": dense_parameters,
                "final": pruned.metrics["parameters"]
                - exported.metrics.get("vocabulary", {}).get("parameters_removed", 0),
            },
            "flops": flops.compare(
                architecture,
                tuned.structure,
                pruned.structure,
                length,
                reads="first token" if narrowed["nodes"] > 0 else "all tokens",
                one_query=narrowed["attention"] > 0,
            ),
        },
        "parity": {
            "merge_max_abs": pruned.metrics["merge_max_abs"],
            "removal_max_abs": pruned.metrics["removal_max_abs"],
            "export_max_abs": max(proof["export_max_abs"] for proof in export_proofs),
            "label_agreement": parity.least_agreement(
                *(proof["label_agreement"] for proof in (pruned.metrics, *export_proofs))
            ),
        },
        "accuracy": validation["accuracy"],
        "other_metrics": validation["other_metrics"],
        "gates": validation["gates"],
        "providers": validation["providers"],
        "not_validated": validation["not_validated"],
        "latency": measured["latency"],
        "latency_grid": measured["grid"],
        "latency_not_measured": measured["not_measured"],
        "target": {"name": naming.named(exported.config["target"]), **exported.metrics["target"]},
        "files": measured["size"],
        "size": _sizes(*chain["export"], measured["size"]),
        "vocabulary": _vocabulary(*chain["export"], validation),
        "latency_reference": measured["reference"],
        "latency_turns": measured["turns"],
        "environment": measured["environment"],
        "pipeline": [
            {"stage": name, "config": naming.named_options(described.config), "metrics": described.metrics}
            for name, (_, described) in chain.items()
        ],
    }
    return content | interfaces.of(tuned.architecture).in_report(tuned, pruned, exported, validation)


def _sizes(folder: Path, exported: Manifest, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each part of the model weighs in each file of the export folder; `rest` is the graph and small tensors."""
    family = architectures.get(exported.architecture)
    total = {row["artifact"]: row["size_mb"] for row in rows}
    sizes = []
    for name, path in benchmark.name_artifacts(folder, exported).items():
        parts = shares.megabytes(path, family)
        parts["rest"] = total[name] - sum(parts.values())
        described = {part: {"mb": weight, "share": weight / total[name]} for part, weight in parts.items()}
        sizes.append({"artifact": name, "size_mb": total[name], "parts": described})
    return sizes


def _vocabulary(folder: Path, exported: Manifest, validation: dict[str, Any]) -> dict[str, Any] | None:
    """How far the vocabulary was trimmed and what that saved in each file; None if it was not.

    `examples_alike` are those whose tokens all stayed.
    """
    if not vocabulary.is_trimmed(exported):
        return None
    before, after = (exported.metrics["vocabulary"][name] for name in ("before", "after"))
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
    if content["key"]["folder"] != checkpoint.fingerprint(folder):
        raise UserError(f"{path} is of an earlier content of its folder; run dsee-compress {command} {folder} again")
    return content
