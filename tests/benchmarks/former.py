"""Our exports beside those of a former commit: as fast, with the same answers.

    OMP_NUM_THREADS=2 python -m tests.benchmarks.former measure --commit f2939c7 --models MiniLM BERT-base
    OMP_NUM_THREADS=2 python -m tests.benchmarks.former measure --commit f2939c7 --models GPT-2 --gpt2 runs/gpt2-small
    python -m tests.benchmarks.former show

The former code makes the stage folders that both export, in a worktree of its own. The files take their turns in one
process, which reads them as we do now.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import dsee_compress
from dsee_compress.evaluation import environment
from dsee_compress.evaluation import latency as timing
from dsee_compress.evaluation.bootstrap import Interval
from dsee_compress.exporting.layouts import LAYOUTS
from dsee_compress.models import config_of

from . import contestants, decoding, finetune, results

RESULTS = Path(__file__).with_name("former.jsonl")
PRECISIONS = {
    "MiniLM": ["fp32", "fp16", "int8", "int8_static", "int4"],
    "BERT-base": ["fp32", "fp16", "int8", "int4"],
    "GPT-2": ["fp32", "int8", "int4"],
}
"""Static int8 is refused by its gate where weights are random."""
SHAPES = {"encoder": [(1, 32), (1, 128), (8, 128)], "decoder": [(1, 32), (1, 128)]}
KINDS = {"MiniLM": "encoder", "BERT-base": "encoder", "GPT-2": "decoder"}
"""What is measured; of BERT-base the shape, with random weights."""
GOALS: dict[str, dict[str, Any]] = {"dense": {"heads": 0.0, "neurons": 0.0}, "25 %": {"flops_saved": 0.25}}
DENSE_ALONE = {"BERT-base"}
"""Whose exports take minutes each."""
_LEAST: dict[str, Any] = {"epochs": 1, "learning_rate": 1e-9, "decomposition": "random"}
TRAINING: dict[str, dict[str, Any]] = {
    "MiniLM": {"epochs": 3, "learning_rate": 2e-3, "max_length": 64},
    "BERT-base": {"max_length": 64, **_LEAST},
    "GPT-2": {"task": "generation", **_LEAST},
}
"""Of MiniLM as much as static int8 asks for, of the others the least."""
RETUNING: dict[str, dict[str, Any]] = {
    "MiniLM": {"retune_epochs": 1, "learning_rate": 2e-3},
    "BERT-base": {"retune_epochs": 0, "criterion": "random"},
    "GPT-2": {"retune_epochs": 0, "criterion": "random"},
}
INTENTS = Path(__file__).parents[2] / "samples" / "intents"
DATA: dict[str, Callable[[Path], Path]] = {
    "MiniLM": lambda folder: INTENTS,
    "BERT-base": contestants.data,
    "GPT-2": decoding.data,
}
"""Where the data is, or is written."""
Row = dict[str, Any]

_STAGE = """
import json, sys
import dsee_compress
stage, arguments, options = json.loads(sys.argv[1])
getattr(dsee_compress, stage)(*arguments, **options)
"""


def former(code: Path, stage: str, *arguments: str, output: Path, **options: Any) -> Path:
    """Run a stage with the code of a former commit, unless its folder is there."""
    if not output.exists():
        call = json.dumps([stage, arguments, {"output": str(output), **options}])
        subprocess.run(
            [sys.executable, "-c", _STAGE, call], check=True, cwd=code, env=os.environ | {"PYTHONPATH": str(code)}
        )
    return output


def make(commit: str, name: str, model: str, work: Path) -> dict[str, tuple[Path, Path]]:
    """The folders of the former code's exports and of ours, dense and pruned; what is in `work` is not made again."""
    code, own = work / "code", work / name
    if not code.exists():
        subprocess.run(["git", "worktree", "add", "--detach", str(code), commit], check=True)
    tuned = former(
        code, "finetune", output=own / "finetune", model=model, data=str(DATA[name](own / "data")), **TRAINING[name]
    )
    made = {}
    goals = {"dense": GOALS["dense"]} if name in DENSE_ALONE else GOALS
    for number, (goal, options) in enumerate(goals.items()):
        cut = own / f"cut{number}"
        former(code, "prune", str(tuned), output=cut, **RETUNING[name], **options)
        given = {"precision": PRECISIONS[name]}
        before = former(code, "export", str(cut), output=own / f"cut{number}-before", **given)
        made[goal] = (before, dsee_compress.export(cut, output=own / f"cut{number}-now", **given))
    return made


def measure(
    commit: str, of: str, made: dict[str, tuple[Path, Path]], threads: int, rounds: int, calls: int
) -> Iterator[Row]:
    """A row a model, precision and shape: times of both files, their ratio, and how far their answers are apart."""
    machine, kind = environment.describe(), KINDS[of]
    for name, pair in made.items():
        for precision in PRECISIONS[of]:
            files = {
                when: folder / LAYOUTS["optimum"].graphs[precision]
                for when, folder in zip(("before", "now"), pair, strict=True)
            }
            for batch, length in SHAPES[kind]:
                setting = timing.Setting(batch, length, threads, "cpu", calls * rounds, rounds, warmup=2, seed=0)
                taken, apart = (_calls if kind == "encoder" else _texts)(files, setting)
                yield {
                    **{"of": of, "kind": kind, "model": name, "precision": precision, "batch": batch, "length": length},
                    "commit": commit,
                    "p50_ms": {when: float(np.median(samples)) for when, samples in taken.items()},
                    "times_as_fast": timing.speedup(taken["before"], taken["now"]).as_json(),
                    "apart": apart,
                    **{"threads": threads, "rounds": rounds, "calls": calls, "environment": machine},
                }


def _calls(files: dict[str, Path], setting: timing.Setting) -> tuple[dict[str, timing.Samples], float]:
    vocabulary = config_of(files["now"].parent).vocab_size
    fed = contestants.full_batch(setting.batch, setting.sequence_length, vocabulary)
    opened = {when: partial(timing.onnx_forward, file, setting) for when, file in files.items()}
    logits = []
    for contestant in opened.values():
        with contestant() as forward:
            logits.append(forward(fed))
    return timing.in_turns(opened, fed, setting), float(abs(logits[0] - logits[1]).max())


def _texts(files: dict[str, Path], setting: timing.Setting) -> tuple[dict[str, timing.Samples], float]:
    """Of a text with all its tokens; apart is the share of its tokens that are others."""
    prompt = decoding.prompt(setting)
    writers = {
        when: partial(decoding.writing, partial(decoding.ours, file), setting, decoding.NEW_TOKENS)
        for when, file in files.items()
    }
    written = []
    for writer in writers.values():
        with writer() as write:
            written.append(write(prompt))
    return timing.in_turns(writers, prompt, setting), float((written[0] != written[1]).float().mean())


def show(rows: list[Row]) -> str:
    """One line a model and precision, one column a shape: milliseconds before and now, and the ratio."""
    lines = []
    for of in dict.fromkeys(row["of"] for row in rows):
        mine = [row for row in rows if row["of"] == of]
        shapes = list(dict.fromkeys((row["batch"], row["length"]) for row in mine))
        lines += [
            f"| {of} | " + " | ".join(f"{batch} × {length}" for batch, length in shapes) + " | answers apart |",
            "| --- |" + " --- |" * (len(shapes) + 1),
        ]
        for model, precision in dict.fromkeys((row["model"], row["precision"]) for row in mine):
            line = [row for row in mine if (row["model"], row["precision"]) == (model, precision)]
            apart = max(row["apart"] for row in line)
            lines.append(f"| {model}, {precision} | {' | '.join(map(_cell, line))} | {apart:.2g} |")
        lines.append("")
    return "\n".join(lines)


def _cell(row: Row) -> str:
    ratio = Interval(row["times_as_fast"]["value"], *row["times_as_fast"]["ci95"])
    before, now = row["p50_ms"].values()
    return f"{before:.2f}, {now:.2f}: {ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"


def main() -> None:
    """Measure and append to the results, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["measure", "show"])
    parser.add_argument("--commit", help="of the former code")
    parser.add_argument("--models", nargs="+", choices=KINDS, default=["MiniLM"])
    parser.add_argument("--gpt2", type=Path, help="folder of a pretrained GPT-2")
    parser.add_argument("--work", type=Path, default=Path("runs/former"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--calls", type=int, default=20, help="a round and file; of texts a tenth")
    given = parser.parse_args()
    if given.what == "measure":
        work = given.work.resolve()
        models = {
            "MiniLM": lambda: finetune.MINILM,
            "BERT-base": lambda: contestants.bert_base(work / "bert-base"),
            "GPT-2": lambda: str(given.gpt2.resolve()),
        }
        made = {name: make(given.commit, name, models[name](), work) for name in given.models}
        for name in given.models:
            calls = given.calls if KINDS[name] == "encoder" else max(given.calls // 10, 1)
            for row in measure(given.commit, name, made[name], given.threads, given.rounds, calls):
                with RESULTS.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    print(show(results.read(RESULTS)))


if __name__ == "__main__":
    main()
