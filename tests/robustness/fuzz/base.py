"""What is valid and small, made once by the commands themselves: models, data, stage folders, a bundle."""

import json
from functools import cached_property
from pathlib import Path

from ...fixtures import models
from .. import forked
from . import case

FINETUNE = ["--rank", "2", "--sparse", "8", "--epochs", "1", "--batch-size", "8", "--max-length", "32"]
PRUNE = ["--heads", ".25", "--neurons", ".25", "--retune-epochs", "1", "--batch-size", "8", "--sequence-length", "32"]
BENCHMARK = ["--samples", "10", "--rounds", "1", "--sequence-length", "8", "--warmup", "1", "--threads", "1"]
ROWS, VALIDATION_ROWS = 16, 8


class Base:
    """Valid folders, each made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @cached_property
    def data(self) -> Path:
        """A binary task."""
        return models.write_data(self._folder / "data", ROWS, VALIDATION_ROWS)

    @cached_property
    def texts(self) -> Path:
        """A data-to-text task."""
        return models.write_generation_data(self._folder / "texts", ROWS, VALIDATION_ROWS)

    def model(self, family: str) -> Path:
        """A pretrained folder of an encoder's family, or of gpt2."""
        folder = self._folder / family
        if not folder.exists():
            write = (
                (lambda: models.write_gpt2(folder)) if family == "gpt2" else lambda: models.write_model(family, folder)
            )
            case.in_child(write, self._folder, self._folder / "log")
        return folder

    @cached_property
    def tuned(self) -> Path:
        """An adapter folder of BERT."""
        return self._run("finetune", "--model", self.model("bert"), "--data", self.data, *FINETUNE, output="tuned")

    @cached_property
    def pruned(self) -> Path:
        return self._run("prune", self.tuned, *PRUNE, output="pruned")

    @cached_property
    def exported(self) -> Path:
        return self._run("export", self.pruned, "--precision", "fp32", output="exported")

    @cached_property
    def measured(self) -> Path:
        """A run: a folder with an export that was validated and benchmarked."""
        self._run("validate", self.exported, "--max-compression-drop", "1")
        self._run("benchmark", self.exported, *BENCHMARK)
        self._run("report", self.exported)
        return self.exported

    @cached_property
    def bundle(self) -> Path:
        return self._run("bundle", self.exported, output="bundle")

    @cached_property
    def lora(self) -> Path:
        """An adapter as PEFT saves it."""
        given = ["--model", self.model("bert"), "--data", self.data, *FINETUNE, "--sparse", "0"]
        return self._run("export-peft", self._run("finetune", *given, output="no sparse"), output="lora")

    @cached_property
    def writer(self) -> Path:
        """An export folder of GPT-2."""
        given = ["--model", self.model("gpt2"), "--data", self.texts, "--task", "generation", *FINETUNE]
        tuned = self._run("finetune", *given, "--max-length", "64", output="tuned writer")
        return self._run("export", tuned, "--precision", "fp32", output="writer")

    @cached_property
    def writer_bundle(self) -> Path:
        return self._run("bundle", self.writer, "--max-new-tokens", "4", output="writer bundle")

    @cached_property
    def recipe(self) -> Path:
        """Of a small run."""
        path = self._folder / "recipe.json"
        recipe = {
            "finetune": {"model": str(self.model("bert")), "data": str(self.data), "epochs": 1, "rank": 2, "sparse": 8},
            "prune": {"heads": 0.25, "neurons": 0.25, "retune_epochs": 1, "sequence_length": 32},
            "export": {"precision": ["fp32"]},
            "validate": {"max_compression_drop": 1},
            "benchmark": {"samples": 10, "rounds": 1, "sequence_length": 8, "warmup": 1, "threads": 1},
        }
        path.write_text(json.dumps(recipe))
        return path

    @cached_property
    def run(self) -> Path:
        """A whole one, which the same command leaves as it is."""
        return self._run("run", self.recipe, output="run")

    @cached_property
    def latency(self) -> Path:
        """What a device measured of the bundle."""
        path = self._folder / "latency.json"
        arguments = [
            "--samples",
            "10",
            "--warmup",
            "0",
            "--sequence-length",
            "8",
            "--threads",
            "1",
            "--output",
            str(path),
        ]
        ended = forked.Program(self.bundle / "bench.py", arguments, self._folder, self._folder / "log").wait(
            case.SECONDS
        )
        if ended.code:
            raise RuntimeError(f"bench.py: exit code {ended.code}, {ended.stderr[-400:]}")
        return path

    def _run(self, command: str, *arguments: object, output: str | None = None) -> Path:
        folder = Path(str(arguments[0])) if output is None else self._folder / output
        given = [command, *map(str, arguments), *(["--output", str(folder)] if output else [])]
        ended = forked.Command(given, self._folder, self._folder / "log").wait(case.SECONDS)
        if ended.code:
            raise RuntimeError(f"{' '.join(given)}: exit code {ended.code}, {ended.stderr[-400:]}")
        return folder
