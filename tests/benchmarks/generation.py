"""Data-to-text by every method: full fine-tuning, PEFT's LoRA, DSEE dense and structured, on E2E's test split.

    python samples/gpt2/pretrain.py --output runs/gpt2-small
    OMP_NUM_THREADS=1 python -m tests.benchmarks.generation measure --data ../shared/data/e2e --model runs/gpt2-small \
        --seeds 0 --methods full lora dsee taylor-25
    python -m tests.benchmarks.generation show

Resumable as accuracy.py is. Every method reads the same rows; LoRA and DSEE have the same rank, alpha and Linears.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

import dsee_compress
from dsee_compress import interfaces, pretrained, tasks
from dsee_compress.configs import FinetuneConfig, ValidateConfig
from dsee_compress.evaluation import bootstrap, environment
from dsee_compress.interfaces import examination
from dsee_compress.metrics import METRICS
from dsee_compress.stages import common
from dsee_compress.store.manifest import Manifest, PruneManifest
from dsee_compress.tasks import Spec
from dsee_compress.training import trainer

from . import peers, results

GENERATION = tasks.get("generation")

RESULTS = Path(__file__).with_name("generation.jsonl")
TRAINING: dict[str, Any] = {"task": "generation", "epochs": 2, "batch_size": 16, "label_smoothing": 0.1}
LEARNING_RATE = {"full": 5e-4}
"""Where it is not that of LoRA and DSEE."""
ADAPTERS_LEARNING_RATE = 5e-3
PRUNED: dict[str, dict[str, Any]] = {
    "taylor-25": {"flops_saved": 0.25},
    "taylor-40": {"flops_saved": 0.4},
    "retuned": {"heads": 0.0, "neurons": 0.0},
}
RETUNE = {"retune_epochs": 1, "batch_size": 16, "learning_rate": 1e-3, "label_smoothing": 0.1}
METHODS = ("full", "lora", "dsee", *PRUNED)
DECODING = ValidateConfig(split="test", beams=10, length_penalty=0.9, no_repeat_ngram=4, batch_size=16)
"""As LoRA and DSEE were measured (Hu et al., 2022; Chen et al., 2023)."""


def measure(data: str, base: str, seed: int, method: str, work: Path) -> dict[str, Any]:
    """One row: train (or prune what was trained), write to every test source, score with all references."""
    source = {"model": base, "data": data, "seed": seed, "learning_rate": ADAPTERS_LEARNING_RATE, **TRAINING}
    here, saved, share = work / f"seed{seed}", 0.0, 1.0
    if method in ("full", "lora"):
        source["learning_rate"] = LEARNING_RATE.get(method, source["learning_rate"])
        model, tokenizer, task, seconds = _peer(method, FinetuneConfig(**source), here / method)
        trained = [parameter.numel() for parameter in model.parameters() if parameter.requires_grad]
        share = sum(trained) / sum(parameter.numel() for parameter in model.parameters())
    else:
        tuned = dsee_compress.finetune(**source, output=here / "dsee")
        made = tuned
        if method != "dsee":
            made = dsee_compress.prune(tuned, output=here / method, seed=seed, **RETUNE, **PRUNED[method])
        model, tokenizer, task = dsee_compress.load(made), common.tokenizer_of(made), Manifest.read(made).task
        manifests = [Manifest.read(folder) for folder in dict.fromkeys((tuned, made))]
        saved = sum(each.metrics.flops.saved for each in manifests if isinstance(each, PruneManifest))
        share = manifests[0].metrics.trainable_fraction
        seconds = sum(manifest.metrics.training.seconds for manifest in manifests)
    return {
        "method": method,
        "seed": seed,
        "base": Path(base).name,
        **_score(model, tokenizer, task),
        "trained": share,
        "flops_saved": saved,
        "training_seconds": round(seconds),
        "training": TRAINING | {"learning_rate": source["learning_rate"]},
        "retune": RETUNE if method in PRUNED else {},
        "decoding": DECODING.resolved(),
        "environment": environment.describe(),
    }


def _peer(
    method: str, config: FinetuneConfig, state: Path
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Spec, float]:
    task = tasks.describe(config.data, config)
    model, tokenizer = pretrained.load(config.model, task, config.seed)
    wrapped = peers.PEERS[method](model, config)
    rows = tasks.encode(task, "train", tokenizer)
    result = trainer.train(
        wrapped, GENERATION, rows, GENERATION.collator(tokenizer), config, config.epochs, state, method
    )
    return wrapped, tokenizer, task, result["seconds"]


def _score(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Spec) -> dict[str, Any]:
    exam = interfaces.decoder.examine(task, "test", tokenizer, DECODING)
    written = exam.answers(examination.subject_of(model)).predictions
    sampled = bootstrap.bootstrap(exam.metrics["bleu"], {"": written}, exam.truth)[""]
    values = {name: metric.value(written, exam.truth) for name, metric in exam.metrics.items()}
    return {"examples": exam.examples, "bleu_ci95": sampled.interval.as_json()["ci95"], **values}


def table(rows: list[dict[str, Any]]) -> str:
    """One line a method, one column a metric: means over seeds, BLEU with its standard deviation or its interval."""
    names = GENERATION.metrics
    titles = [METRICS[name].title for name in names]
    lines = [
        "| method | trained | FLOPs of the blocks saved | " + " | ".join(titles) + " | seeds |",
        "| --- |" + " --- |" * (len(names) + 3),
    ]
    for method in METHODS:
        mine = [row for row in rows if row["method"] == method]
        if not mine:
            continue
        cells = [_cell(name, mine) for name in names]
        share, saved = (statistics.mean(row[name] for row in mine) for name in ("trained", "flops_saved"))
        lines.append(f"| {method} | {share:.2%} | {saved:.1%} | " + " | ".join(cells) + f" | {len(mine)} |")
    return "\n".join(lines)


def _cell(name: Any, rows: list[dict[str, Any]]) -> str:
    words, values = METRICS[name], [row[name] for row in rows]
    cell = words.figure(statistics.mean(values))
    if name != "bleu":
        return cell
    if len(values) > 1:
        return f"{cell} ± {words.figure(statistics.stdev(values))}"
    return f"{cell} ({' to '.join(words.figure(end) for end in rows[0]['bleu_ci95'])})"


def main() -> None:
    """Measure what is not yet in the results, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("show")
    options = commands.add_parser("measure")
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--model", type=Path, required=True, help="folder of a pretrained GPT-2")
    options.add_argument("--work", type=Path, default=Path("runs/generation"))
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    options.add_argument("--methods", nargs="+", choices=METHODS, default=["full", "lora", "dsee", "taylor-25"])
    given = parser.parse_args()
    if given.command == "measure":
        for seed in given.seeds:
            for method in given.methods:
                if (seed, method) not in {(row["seed"], row["method"]) for row in measured_rows()}:
                    row = measure(str(given.data.resolve()), str(given.model.resolve()), seed, method, given.work)
                    with RESULTS.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    print(table(measured_rows()))


def measured_rows() -> list[dict[str, Any]]:
    """The rows of the results so far."""
    return results.read(RESULTS)


if __name__ == "__main__":
    main()
