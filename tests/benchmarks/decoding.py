"""Tokens a second of decoders: ours, dense and pruned, against Optimum's export and PyTorch, in turns.

    OMP_NUM_THREADS=2 python -m tests.benchmarks.decoding measure --model runs/gpt2-small --trim ../shared/data/e2e
    python -m tests.benchmarks.decoding show

All write through transformers' `generate`: greedily, to one prompt of random tokens, as many tokens as they are told.
The dense fp32 models have to write the same tokens. Of a text, the time to the first token is what one token takes;
the rest is what the others take.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

import dsee_compress
from dsee_compress.evaluation import environment
from dsee_compress.evaluation import latency as timing
from dsee_compress.evaluation.generator import OnnxGenerator
from dsee_compress.models import config_of
from dsee_compress.stages.export import artifacts
from dsee_compress.store import folders
from dsee_compress.store.manifest import ExportManifest

from . import results
from .contestants import CUTS, optimum

RESULTS = Path(__file__).with_name("decoding.jsonl")
PYTORCH, PLAIN = "PyTorch, fp32", "Optimum, fp32"
SAME = (PYTORCH, PLAIN, "ours, fp32")
"""Who is the same model."""
PRECISIONS = ("fp32", "int8", "int4")
NEW_TOKENS = 64
Writer = Callable[[Any], Any]
Opened = Callable[[timing.Setting], AbstractContextManager[Any]]


def make(model: str, trim: Path | None, work: Path) -> dict[str, tuple[Path, Opened]]:
    """The file of each contestant and how it is opened; what is in `work` is not made again.

    trim: data to whose tokens the last contestants' vocabulary is trimmed.
    """
    options = {"task": "generation", "epochs": 1, "learning_rate": 1e-9, "decomposition": "random"}
    tuned = dsee_compress.finetune(model=model, data=str(data(work / "data")), output=work / "finetune", **options)
    plain = optimum(["export", "onnx", "--model", model, "--task", "text-generation-with-past"], work / "optimum")
    found: dict[str, tuple[Path, Opened]] = {
        PYTORCH: (Path(model) / "model.safetensors", partial(_pytorch, model)),
        PLAIN: (plain / "model.onnx", partial(_optimum, plain)),
    }
    exported = {}
    for number, (name, goal) in enumerate(CUTS.items()):
        cut = dsee_compress.prune(tuned, output=work / f"cut{number}", criterion="random", retune_epochs=0, **goal)
        exported[name] = dsee_compress.export(cut, output=work / f"cut{number}-onnx", precision=list(PRECISIONS))
    if trim is not None:
        options = {"precision": list(PRECISIONS), "trim_vocabulary": str(trim)}
        folder = dsee_compress.export(work / "cut1", output=work / "trimmed", **options)
        exported[f"{list(CUTS)[1]}, {config_of(folder).vocab_size:,} tokens"] = folder
    for precision in PRECISIONS:
        for name, folder in exported.items():
            file = artifacts(folder, ExportManifest.read(folder))[precision]
            found[f"ours, {precision}{name}"] = (file, partial(ours, file))
    return found


@contextmanager
def _pytorch(folder: str, setting: timing.Setting) -> Iterator[Any]:
    before = torch.get_num_threads()
    torch.set_num_threads(setting.threads)
    try:
        yield AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False).eval()
    finally:
        torch.set_num_threads(before)


@contextmanager
def _optimum(folder: Path, setting: timing.Setting) -> Iterator[Any]:
    from onnxruntime import SessionOptions
    from optimum.onnxruntime import ORTModelForCausalLM

    options = SessionOptions()
    options.intra_op_num_threads = setting.threads
    yield ORTModelForCausalLM.from_pretrained(folder, session_options=options)


def ours(file: Path, setting: timing.Setting) -> OnnxGenerator:
    return OnnxGenerator(file, threads=setting.threads)


@contextmanager
def writing(opened: Opened, setting: timing.Setting, tokens: int) -> Iterator[Writer]:
    """Writes `tokens` tokens to a prompt, the end of text among them or not."""
    with opened(setting) as model, torch.inference_mode():
        yield lambda batch: model.generate(
            **batch, min_new_tokens=tokens, max_new_tokens=tokens, do_sample=False, pad_token_id=0
        )


def measure(
    model: str,
    trim: Path | None,
    prompts: list[int],
    batches: list[int],
    threads: int,
    rounds: int,
    calls: int,
    work: Path,
) -> None:
    """Append a row a contestant, a prompt's length and a batch to the results."""
    field = make(model, trim, work)
    for batch in batches:
        for length in prompts:
            setting = timing.Setting(batch, length, threads, "cpu", calls * rounds, rounds, warmup=1, seed=0)
            _require_same_tokens(field, setting)
            taken = {tokens: _in_turns(field, setting, tokens) for tokens in (1, NEW_TOKENS)}
            with RESULTS.open("a") as file:
                for row in _rows(Path(model).name, field, taken, setting):
                    file.write(json.dumps(row) + "\n")


def _in_turns(field: dict[str, tuple[Path, Opened]], setting: timing.Setting, tokens: int) -> dict[str, timing.Samples]:
    writers = {name: partial(writing, opened, setting, tokens) for name, (_, opened) in field.items()}
    return timing.in_turns(writers, prompt(setting), setting)


def prompt(setting: timing.Setting) -> dict[str, torch.Tensor]:
    ids = torch.as_tensor(np.random.default_rng(0).integers(300, 1000, (setting.batch, setting.sequence_length)))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _require_same_tokens(field: dict[str, tuple[Path, Opened]], setting: timing.Setting) -> None:
    written = []
    for name in SAME:
        with writing(field[name][1], setting, NEW_TOKENS) as write:
            written.append(write(prompt(setting)))
    assert all(torch.equal(written[0], other) for other in written), "the dense fp32 models write other tokens"


def _rows(
    model: str, field: dict[str, tuple[Path, Opened]], taken: dict[int, Any], setting: timing.Setting
) -> Iterator[dict[str, Any]]:
    machine = environment.describe()
    first, whole = taken[1], taken[NEW_TOKENS]
    for name, (file, _) in field.items():
        decode = {other: whole[other] - np.median(first[other]) for other in (name, PLAIN)}
        yield {
            "model": model,
            "contestant": name,
            "batch": setting.batch,
            "prompt": setting.sequence_length,
            "new_tokens": NEW_TOKENS,
            "threads": setting.threads,
            "first_token_ms": float(np.median(first[name])),
            "first_token_times_as_fast": timing.speedup(first[PLAIN], first[name]).as_json(),
            "tokens_per_second": float(setting.batch * (NEW_TOKENS - 1) / np.median(decode[name]) * 1000),
            "times_as_fast": timing.speedup(decode[PLAIN], decode[name]).as_json(),
            "size_mb": timing.size_mb(file)["size_mb"],
            "rounds": setting.rounds,
            "samples": setting.samples,
            "environment": machine,
        }


def data(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation"):
        folders.write_text(folder / f"{split}.jsonl", '{"source": "a day", "target": "it is a good day"}\n' * 2)
    return folder


def table(rows: list[dict[str, Any]]) -> str:
    """One line a contestant, two columns a setting: tokens a second and the first token, each with its ratio."""
    settings = list(dict.fromkeys((row["batch"], row["prompt"]) for row in rows))
    titles = [f"tokens/s, {batch} × {prompt} | first token, ms, {batch} × {prompt}" for batch, prompt in settings]
    lines = [
        f"| {rows[0]['model']} | size, MB | {' | '.join(titles)} |",
        "| --- |" + " --- |" * (1 + 2 * len(settings)),
    ]
    for name in dict.fromkeys(row["contestant"] for row in rows):
        mine = {(row["batch"], row["prompt"]): row for row in rows if row["contestant"] == name}
        cells = [cell for setting in settings for cell in _cells(mine[setting])]
        lines.append(f"| {name} | {next(iter(mine.values()))['size_mb']:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> list[str]:
    ratios = (row["times_as_fast"], row["first_token_times_as_fast"])
    figures = (f"{row['tokens_per_second']:.0f}", f"{row['first_token_ms']:.1f}")
    return [
        f"{figure}, {ratio['value']:.2f} ({ratio['ci95'][0]:.2f} to {ratio['ci95'][1]:.2f})"
        for figure, ratio in zip(figures, ratios, strict=True)
    ]


def main() -> None:
    """Measure and append to the results, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("show")
    options = commands.add_parser("measure")
    options.add_argument("--model", type=Path, required=True, help="folder of a pretrained GPT-2")
    options.add_argument("--trim", type=Path, help="data to whose tokens a model's vocabulary is trimmed, too")
    options.add_argument("--work", type=Path, default=Path("runs/decoding"))
    options.add_argument("--prompts", type=int, nargs="+", default=[32, 128])
    options.add_argument("--batches", type=int, nargs="+", default=[1])
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--calls", type=int, default=5, help="a round and contestant")
    given = parser.parse_args()
    if given.command == "measure":
        model = str(given.model.resolve())
        turns = (given.threads, given.rounds, given.calls)
        measure(model, given.trim, given.prompts, given.batches, *turns, given.work)
    rows = results.read(RESULTS)
    for name in dict.fromkeys(row["model"] for row in rows):
        print(table([row for row in rows if row["model"] == name]), end="\n\n")


if __name__ == "__main__":
    main()
