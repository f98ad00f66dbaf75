"""Fine-tune with DSEE, prune, export to ONNX, validate, benchmark, bundle, report.

Each stage is one function that reads a folder and writes a folder, with the same options as its command.
Nothing heavy is imported before a stage is called.
"""

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from .configs import (
    BenchmarkConfig,
    BundleConfig,
    ExportConfig,
    FinetuneConfig,
    GenerateConfig,
    ImportPeftConfig,
    PruneConfig,
    PushConfig,
    ValidateConfig,
)
from .errors import GateError, UserError
from .options import (
    BenchmarkOptions,
    BundleOptions,
    ExportOptions,
    FinetuneOptions,
    GenerateOptions,
    ImportPeftOptions,
    PruneOptions,
    PushOptions,
    ValidateOptions,
)
from .strict import StrictConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "GateError",
    "UserError",
    "benchmark",
    "bundle",
    "export",
    "export_peft",
    "finetune",
    "generate",
    "import_peft",
    "load",
    "prune",
    "push",
    "report",
    "run",
    "validate",
]

Folder = str | Path
_Function = TypeVar("_Function", bound=Callable[..., Any])


def _options_of(config: type[StrictConfig]) -> Callable[[_Function], _Function]:
    """Show the config's fields as the function's own options, in its signature and its help."""

    def decorate(function: _Function) -> _Function:
        own = inspect.signature(function)
        parameters = [parameter for parameter in own.parameters.values() if parameter.kind != parameter.VAR_KEYWORD]
        described = []
        for name, field in config.model_fields.items():
            default = inspect.Parameter.empty if field.is_required() else field.default
            parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default))
            described.append(f"    {name}: {field.description}")
        parameters.sort(key=lambda parameter: (parameter.kind, parameter.default is not inspect.Parameter.empty))
        function.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        function.__doc__ = f"{function.__doc__}\n\n    Options:\n" + "\n".join(described)
        return function

    return decorate


@_options_of(FinetuneConfig)
def finetune(*, output: Folder, overwrite: bool = False, **options: Unpack[FinetuneOptions]) -> Path:
    """Fine-tune a pretrained model with DSEE on frozen weights; returns `output`, an adapter folder."""
    config = FinetuneConfig.parse(options)
    from .stages import finetune as stage

    return stage.finetune(config, Path(output), overwrite)


@_options_of(ImportPeftConfig)
def import_peft(
    folder: Folder, *, output: Folder, overwrite: bool = False, **options: Unpack[ImportPeftOptions]
) -> Path:
    """Make an adapter folder, as finetune's, from a LoRA adapter that PEFT saved; returns `output`.

    Its head's labels are those of the data, in their order: the set's own, or sorted.
    """
    config = ImportPeftConfig.parse(options)
    from .stages import peft as stage

    return stage.import_peft(Path(folder), config, Path(output), overwrite)


def export_peft(folder: Folder, *, output: Folder, overwrite: bool = False) -> Path:
    """Write the adapter folder `folder`, trained with sparse=0, as a LoRA adapter for PEFT; returns `output`."""
    from .stages import peft as stage

    return stage.export_peft(Path(folder), Path(output), overwrite)


@_options_of(PruneConfig)
def prune(folder: Folder, *, output: Folder, overwrite: bool = False, **options: Unpack[PruneOptions]) -> Path:
    """Choose S1 from the adapter in `folder`, retune, merge and remove; returns `output`, a smaller model's folder."""
    config = PruneConfig.parse(options)
    from .stages import prune as stage

    return stage.prune(Path(folder), config, Path(output), overwrite)


@_options_of(ExportConfig)
def export(folder: Folder, *, output: Folder, overwrite: bool = False, **options: Unpack[ExportOptions]) -> Path:
    """Write the model of an adapter or pruned folder as ONNX; returns `output`, an ONNX folder."""
    config = ExportConfig.parse(options)
    from .stages import export as stage

    return stage.export(Path(folder), config, Path(output), overwrite)


@_options_of(ValidateConfig)
def validate(folder: Folder, *, overwrite: bool = False, **options: Unpack[ValidateOptions]) -> Path:
    """Measure the metrics and parity of `folder` and what it was made from; returns it, with validation.json."""
    config = ValidateConfig.parse(options)
    from .stages import validate as stage

    return stage.validate(Path(folder), config, overwrite)


@_options_of(BenchmarkConfig)
def benchmark(folder: Folder, *, overwrite: bool = False, **options: Unpack[BenchmarkOptions]) -> Path:
    """Measure latency, memory and size of an ONNX folder; returns it, with benchmark.json."""
    config = BenchmarkConfig.parse(options)
    from .stages import benchmark as stage

    return stage.benchmark(Path(folder), config, overwrite)


@_options_of(BundleConfig)
def bundle(folder: Folder, *, output: Folder, overwrite: bool = False, **options: Unpack[BundleOptions]) -> Path:
    """Write what a device needs to run an ONNX folder without torch to `output`, and to a zip file beside it."""
    config = BundleConfig.parse(options)
    from .stages import bundle as stage

    return stage.bundle(Path(folder), config, Path(output), overwrite)


@_options_of(GenerateConfig)
def generate(folder: Folder, prompts: Iterable[str], **options: Unpack[GenerateOptions]) -> list[str]:
    """What the decoder in an ONNX folder writes to each prompt, a source as in its training; returns the texts."""
    config = GenerateConfig.parse(options)
    from .stages import generate as stage

    return stage.generate(Path(folder), list(prompts), config)


def report(run: Folder, *, add: Iterable[Folder] = ()) -> Path:
    """Write report.json, report.md and report.html into a run's folder; returns it.

    `add` are latency.json files that a bundle's bench.py wrote on a device: this report and later ones show them.
    """
    from .stages import report as stage

    return stage.report(Path(run), [Path(path) for path in add])


@_options_of(PushConfig)
def push(run: Folder, repo: str, **options: Unpack[PushOptions]) -> str:
    """Put the export of a reported run into the repository `repo` of the hub, with a card; returns the commit's URL.

    The token is the one that huggingface_hub finds: HF_TOKEN, or that of `hf auth login`.
    """
    config = PushConfig.parse(options)
    from .stages import push as stage

    return stage.push(Path(run), repo, config)


def run(
    recipe: Folder | dict[str, Any],
    *,
    output: Folder,
    settings: list[str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Run every stage of a recipe (a YAML file, or its content) that is not up to date; returns `output`."""
    from .stages import run as stage

    if isinstance(recipe, dict):
        config = stage.parse_recipe(recipe, settings or [])
    else:
        config = stage.read_recipe(Path(recipe), settings or [])
    return stage.run(config, Path(output), overwrite)


def load(folder: Folder) -> "PreTrainedModel":
    """The model of an adapter folder (merged) or a pruned folder as a normal PreTrainedModel in eval mode."""
    from .adapters.model import load_merged

    return load_merged(Path(folder))
