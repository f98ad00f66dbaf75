"""What a trimmed vocabulary saves and costs (exporting/vocabulary.py).

    OMP_NUM_THREADS=1 python -m tests.benchmarks.vocabulary PRUNED … --data ../shared/data/sst2 --keep DATA …

Each prune folder is exported with its whole vocabulary, with the tokens of its task's training split, and with those
and the tokens of other data sets' training splits, which stand for texts in the same language (`--keep-texts`).
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

import dsee_compress
from dsee_compress import data
from dsee_compress.evaluation import latency
from dsee_compress.models import config_of

FILES = {"fp32": "model.onnx", "int8": "model_int8.onnx"}


def texts_of(sets: list[str], path: Path) -> Path:
    """A file with every text of the training splits of `sets`, a line each."""
    lines = []
    for name in sets:
        table = data.read_split(name, "train")
        lines += [value for _, row in table.rows(table.columns) for value in row if isinstance(value, str)]
    path.write_text("".join(" ".join(line.split()) + "\n" for line in lines), encoding="utf-8")
    return path


def measure(pruned: Path, options: dict[str, str], split: str, output: Path) -> list[dict]:
    """One row a precision: size in MB, and the metric of the split, with the figures that are said of it."""
    folder = dsee_compress.export(pruned, output=output, precision="fp32,int8", **options)
    dsee_compress.validate(folder, split=split, max_drop=0.9, max_compression_drop=0.9)
    result = json.loads((folder / "validation.json").read_text())
    tokens = config_of(folder).vocab_size
    alike = result["examples_alike"] / result["examples"]
    return [
        {
            "precision": precision,
            "tokens": tokens,
            "alike": alike,
            "metric": result["accuracy"][f"onnx_{precision}"]["value"],
            **latency.size_mb(folder / file),
        }
        for precision, file in FILES.items()
    ]


def main() -> None:
    """Print a line a precision and vocabulary: means over the folders."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--data", required=True)
    parser.add_argument("--keep", nargs="+", required=True)
    parser.add_argument("--split", default="test")
    given = parser.parse_args()
    print("| vocabulary | tokens | read as before | precision | MB | zipped | metric, % | change, points |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        trimmed = {"trim_vocabulary": given.data}
        kept = trimmed | {"keep_texts": str(texts_of(given.keep, root / "texts.txt"))}
        whole: dict[str, np.ndarray] = {}
        for name, options in {"whole": {}, "of the task": trimmed, "of the task and others": kept}.items():
            runs = [
                measure(folder, options, given.split, root / f"{name} {index}")
                for index, folder in enumerate(given.folders)
            ]
            for rows in zip(*runs, strict=True):
                precision = rows[0]["precision"]
                metric = 100 * np.array([row["metric"] for row in rows])
                change = metric - whole.setdefault(precision, metric)
                mean = {key: np.mean([row[key] for row in rows]) for key in ("size_mb", "zipped_mb", "alike")}
                changes = " ".join(f"{value:+.2f}" for value in change)
                print(
                    f"| {name} | {rows[0]['tokens']:,} | {mean['alike']:.1%} | {precision} | {mean['size_mb']:.1f} "
                    f"| {mean['zipped_mb']:.1f} | {metric.mean():.2f} | {change.mean():+.2f} ({changes}) |"
                )


if __name__ == "__main__":
    main()
