"""A recipe → every stage in order, and the report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import targets
from ..configs import PruneConfig, RunConfig
from ..errors import UserError, first_line, shown
from ..option_types import split_commas
from ..store import folders, lock, outputs
from ..store.manifest import ExportManifest, Stage
from ..yaml_text import from_yaml

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

PATHS = {
    "finetune": {"model", "data"},
    "export": {"trim_vocabulary", "keep_texts", "target"},
    "validate": {"data"},
    "benchmark": {"baseline", "compare"},
}
FOLDERS: dict[str, Stage] = {"finetune": "finetune", "dense": "export", "prune": "prune", "export": "export"}
"""The stage folders of a run, in their order, and what writes each."""
SECTIONS = ("finetune", "prune", "export", "validate", "benchmark")


@dataclass(frozen=True)
class PlannedStage:
    """One stage of a run: where it writes, what it is for, and how to start it."""

    name: str
    output: Path
    purpose: str
    start: Callable[[], Path]


def read_recipe(path: Path, settings: list[str]) -> RunConfig:
    """Read a YAML recipe and apply `section.option=value` settings.

    Folders that exist beside the recipe are meant; others are as in a shell, as those of settings. Raises UserError
    for a file that is missing or no YAML, an unknown key (with the nearest known one) or a wrong value.
    """
    if not path.is_file():
        raise UserError(f"there is no recipe {path}")
    try:
        content = from_yaml(path.read_text(encoding="utf-8")) or {}
    except ValueError as error:
        raise UserError(f"recipe {path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"recipe {path} must map stages ({', '.join(SECTIONS)}) to their options")
    for section, names in PATHS.items():
        options = content.get(section)
        if isinstance(options, dict):
            content[section] = options | {name: _beside(path, name, options[name]) for name in names & options.keys()}
    return parse_recipe(content, settings, str(path))


def parse_recipe(content: Mapping[str, Any], settings: list[str], where: str = "") -> RunConfig:
    """A recipe's content with `section.option=value` settings applied; UserError as read_recipe."""
    sections = {
        name: dict(options) if isinstance(options, Mapping) else options or {} for name, options in content.items()
    }
    for setting in settings:
        _apply(sections, setting)
    return RunConfig.parse(sections, where)


def plan(config: RunConfig, run: Path, overwrite: bool = False) -> list[PlannedStage]:
    """The stages of a run in order; nothing is started."""
    from . import benchmark, export, finetune, prune, report, validate

    tuned, dense, pruned, exported = (run / name for name in FOLDERS)
    called = {name: [*getattr(config.benchmark, name)] for name in ("batch", "sequence_length")}
    if config.prune.order is not None:  # what is ordered is measured
        for name, values in called.items():
            values += {getattr(config.prune, name)}.difference(values)
    against = config.benchmark.model_copy(update={"baseline": config.benchmark.baseline or str(dense), **called})
    cut = _ordered(config)
    plain = {
        "precision": list(dict.fromkeys(["fp32", cut.precision or "fp32"])),
        **{"layout": "optimum", "trim_vocabulary": None, "keep_texts": None},
    }
    baseline = config.export.model_copy(update=plain)
    return [
        PlannedStage(
            "finetune",
            tuned,
            "train the update",
            lambda: finetune.finetune(config.finetune, tuned, overwrite),
        ),
        PlannedStage("export", dense, "the dense baseline", lambda: export.export(tuned, baseline, dense, overwrite)),
        PlannedStage(
            "prune",
            pruned,
            "choose S1, retune, remove",
            lambda: prune.prune(tuned, cut, pruned, overwrite),
        ),
        PlannedStage(
            "export",
            exported,
            "fuse, quantise",
            lambda: export.export(pruned, config.export, exported, overwrite),
        ),
        PlannedStage(
            "validate",
            exported / validate.RESULT,
            "metrics and parity",
            lambda: validate.validate(exported, config.validation, overwrite),
        ),
        PlannedStage(
            "benchmark",
            exported / benchmark.RESULT,
            "latency, memory, size",
            lambda: benchmark.benchmark(exported, against, overwrite),
        ),
        PlannedStage("report", run / "report.html", "Markdown and HTML", lambda: report.report(run, [])),
    ]


def check(config: RunConfig, run: Path) -> list[str]:
    """Raise UserError for what would stop a run only after hours: what stands where it writes, the model, splits,
    devices, lengths, precisions. Returns what is worth telling of the model."""
    from .. import architectures, data, pretrained, tasks
    from ..adapters import model as adapters
    from ..evaluation import session
    from ..exporting import vocabulary
    from ..pruning import selection
    from ..training import trackers, trainer
    from . import benchmark, common, export, orders

    if run.is_file():
        raise UserError(f"{run} is a file; give a folder for the run")
    if (run / folders.MANIFEST).is_file():
        raise UserError(f"{run} is a stage folder; give another folder for the run")
    for folder, stage in FOLDERS.items():
        outputs.require_own(run / folder, stage)
    exported, _ = export.resolve(config.export)
    session.require_provider(config.benchmark.provider or "cpu")
    benchmark.others(config.benchmark)
    if config.benchmark.baseline is not None:
        ExportManifest.read(Path(config.benchmark.baseline))
    location = pretrained.locate(config.finetune.model)
    pretrained.fingerprint(location, config.finetune.model_sha256)
    examined = pretrained.examine(
        location, config.finetune.task, config.finetune.max_length, trusted=config.finetune.trust_remote_code
    )
    model, tokenizer = examined.config, examined.tokenizer
    architectures.require_length(model, "finetune.max_length", config.finetune.max_length)
    architectures.require_length(model, "prune.sequence_length", config.prune.sequence_length)
    benchmark.require_lengths(model, config.benchmark, "benchmark.")
    adapters.shapes(config.finetune, model)
    selection.require_reachable(_blank(model, config.finetune.model), config.prune)
    orders.require_possible(_ordered(config), model)
    trained_on = data.locate(config.finetune.data)
    task = tasks.describe(trained_on, config.finetune)
    export.require_known(exported, model.model_type, task, tokenizer)
    measured_on = data.locate(config.validation.data or trained_on)
    for where, split in dict.fromkeys([(trained_on, "validation"), (measured_on, config.validation.split)]):
        common.tell_read(**{split: tasks.encode(task.model_copy(update={"data": where}), split, tokenizer)})
    if config.export.trim_vocabulary is not None:
        vocabulary.require_known(tokenizer)
        tasks.describe(data.locate(config.export.trim_vocabulary), config.finetune)
    for training in (config.finetune, config.prune):
        trainer.resolve_precision(training.mixed_precision, trainer.resolve_device(training.device))
        trackers.require(training.report_to)
    return examined.notes


@lock.exclusive("output")
def run(config: RunConfig, output: Path, overwrite: bool = False) -> Path:
    """Run every stage that is not up to date; the report is in `output`."""
    check(config, output)
    if not (output / "finetune" / folders.MANIFEST).exists():
        _require_reachable(config, output)
    for stage in plan(config, output, overwrite):
        stage.start()
    return output


def _require_reachable(config: RunConfig, run: Path) -> None:
    """UserError, before anything is trained, if what is ordered is out of reach."""
    from .. import pretrained
    from . import orders

    source = config.finetune
    if config.prune.order is not None:
        location = pretrained.locate(source.model)
        examined = pretrained.examine(location, source.task, source.max_length, trusted=source.trust_remote_code)
        run.mkdir(parents=True, exist_ok=True)
        orders.of(_ordered(config), examined.config, run / "finetune")


def _ordered(config: RunConfig) -> PruneConfig:
    """The options of `prune`. What is ordered is ordered for what is exported; UserError if it cannot be."""
    from . import export, orders

    cut = config.prune
    if cut.order is None:
        return cut
    exported, _ = export.resolve(config.export)
    assert exported.precision is not None
    if cut.target not in ("auto", config.export.target):
        raise UserError(f"prune.target {cut.target} is not export.target {config.export.target}; give the latter alone")
    precision = cut.precision or orders.usual(exported.precision)
    if precision not in exported.precision:
        raise UserError(
            f"prune.{cut.order} is about the artifact in {precision}, and the export has only "
            f"{', '.join(exported.precision)}; set prune.precision or export.precision"
        )
    return cut.model_copy(update={"target": config.export.target, "precision": precision})


def _blank(model: "PretrainedConfig", name: str) -> "PreTrainedModel":
    """The model that a config describes, without storage; UserError where transformers can build none by it."""
    from .. import architectures

    try:
        return architectures.blank(model)
    except Exception as error:  # whatever a number that is none, too large or negative leads to
        raise UserError(f"the config.json of model {name!r} is of no model: {first_line(error)}") from error


def _apply(content: dict[str, Any], setting: str) -> None:
    key, equals, value = setting.partition("=")
    section, dot, option = key.strip().partition(".")
    if not (equals and dot and section and option):
        raise UserError(f"--set {setting}: write it as stage.option=value, for example prune.heads=0.5")
    options = content.setdefault(section, {})
    if not isinstance(options, dict):
        raise UserError(f"--set {setting}: the recipe's {section} maps no options to values, but is {shown(options)}")
    try:
        options[option] = from_yaml(value)
    except ValueError as error:
        raise UserError(f"--set {setting}: {shown(value)} is not a value: {error}") from error


def _beside(recipe: Path, option: str, value: Any) -> Any:
    if option == "compare" and isinstance(names := split_commas(value), list):
        return [_beside(recipe, "", name) for name in names]
    is_name = not isinstance(value, str) or (option == "target" and value in targets.known())
    return value if is_name or not (recipe.parent / value).exists() else str(recipe.parent / value)
