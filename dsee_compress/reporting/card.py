"""report.json to the card of a repository on the Hugging Face hub: what its page says, and what its search finds."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml
from jinja2 import TemplateError

from .. import metrics
from ..configs import LayoutName
from ..store.manifest import OF_STAGE
from . import render

__all__ = ["Facts", "TemplateError", "markdown"]

_TITLES = {"dense_finetuned": "before pruning, in PyTorch", "pruned": "pruned, in PyTorch"}
"""Of the models of a report that are not in the repository."""


@dataclass(frozen=True)
class Facts:
    """What a card says that no report does."""

    repo: str
    """owner/name"""
    license: str | None
    base: str | None
    """The pretrained model, where it came from the hub."""
    data: str | None
    """The data of the fine-tuning, where it came from the hub."""
    pipeline_tag: str
    pipeline_options: str
    """As those of `Task`."""
    pair: bool
    """Whether two texts are read."""
    threshold: float | None
    """Of scores, where one decides which labels are given."""
    layout: LayoutName
    loader: str
    """Optimum's class for the model."""
    files: dict[str, str]
    """Of each precision, the path in the repository."""


def markdown(report: dict[str, Any], facts: Facts) -> str:
    """The card, README.md of the repository."""
    best = render.headline(report)["artifact"].partition("_")[2]
    return render.page(
        "card.md.jinja",
        report,
        metadata=_yaml(_metadata(report, facts)),
        facts=facts,
        name=_name(facts),
        titles=_TITLES | {_result(precision): path for precision, path in facts.files.items()},
        artifacts={file["artifact"]: _said(file, facts) for file in report["files"]},
        file=PurePosixPath(facts.files[best]),
        precision=best,
        recipe=_yaml(recipe(report["pipeline"])),
        imported="adapter" in report["pipeline"][0]["config"],
    )


def recipe(pipeline: list[dict[str, Any]]) -> dict[str, Any]:
    """The options of each stage that are not as they stand by themselves: a recipe for `dsee-compress run`."""
    sections = {}
    for made in pipeline:
        fields = OF_STAGE[made["stage"]].options.model_fields
        sections[made["stage"]] = {
            name: value
            for name, value in made["config"].items()
            if name not in fields or fields[name].is_required() or value != fields[name].get_default()
        }
    return sections


def _metadata(report: dict[str, Any], facts: Facts) -> dict[str, Any]:
    """What the hub reads of a card."""
    metric, others = report["task"]["metric"], next(iter(report["other_metrics"].values()))
    tags = ["onnx", "dsee", "pruned", report["model"]["architecture"]]
    entries = {
        "license": facts.license,
        "base_model": facts.base,
        "library_name": "onnx",
        "pipeline_tag": facts.pipeline_tag,
        "tags": [*tags, *([facts.layout] if facts.layout != "optimum" else [])],
        "datasets": facts.data and [facts.data],
        "metrics": [metric, *others],
        "model-index": _measured(report, facts, metric),
    }
    return {name: value for name, value in entries.items() if value}


def _measured(report: dict[str, Any], facts: Facts, metric: str) -> list[dict[str, Any]]:
    """The task's own metric of each file that was validated, as the hub's `model-index`; nothing, if none was."""
    figures = [
        {
            "type": metric,
            "name": f"{metrics.named(metric).heading}, {precision}",
            "value": round(report["accuracy"][_result(precision)]["value"], 4),
        }
        for precision in facts.files
        if _result(precision) in report["accuracy"]
    ]
    if not figures:
        return []
    name = report["task"]["name"]
    result = {
        "task": {"type": facts.pipeline_tag},
        "dataset": {"name": name, "type": facts.data or name, "split": report["task"]["split"]},
        "metrics": figures,
    }
    return [{"name": _name(facts), "results": [result]}]


def _said(file: dict[str, Any], facts: Facts) -> str:
    """An artifact of the report by its file in the repository, if it is there."""
    artifact: str = file["artifact"]
    return artifact.replace("_", " ") if file["baseline"] else facts.files.get(artifact.partition("_")[2], artifact)


def _name(facts: Facts) -> str:
    return facts.repo.partition("/")[2]


def _result(precision: str) -> str:
    """What validation calls a file."""
    return f"onnx_{precision}"


def _yaml(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
