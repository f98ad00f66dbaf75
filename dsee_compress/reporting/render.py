"""report.json to Markdown and to one HTML file."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from .wording import METRICS


def headline(report: dict[str, Any]) -> dict[str, Any]:
    """What the report says first: the fastest of the exported artifacts against the baseline."""
    baseline = report["latency"][0]
    exported = [row for row in report["latency"] if not row["baseline"]]
    best = max(exported, key=lambda row: row["speedup"]["value"])
    dense = report["accuracy"]["dense_finetuned"]["value"]
    accuracy = report["accuracy"]["onnx_" + best["artifact"].rpartition("_")[2]]["value"]
    return {
        "artifact": best["artifact"],
        "speedup": best["speedup"],
        "accuracy": accuracy,
        "accuracy_change": accuracy - dense,
        "times_smaller": baseline["size_mb"] / best["size_mb"],
        "baseline": baseline["artifact"],
    }


def markdown(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    return _environment(report).get_template("report.md.jinja").render(report=report, headline=headline(report))


def html(report: dict[str, Any], figures: dict[str, str]) -> str:
    """The report as one HTML file that needs no network; `figures` are inline SVG."""
    template = _environment(report, autoescape=True).get_template("report.html.jinja")
    return template.render(report=report, headline=headline(report), figures=figures)


def _environment(report: dict[str, Any], autoescape: bool = False) -> Environment:
    words = METRICS[report["task"]["metric"]]
    environment = Environment(
        loader=PackageLoader("dsee_compress", "reporting"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value, digits=1: f"{value * 100:.{digits}f} %"
    environment.filters["figure"] = lambda value, words=words: words.figure(value, digits=1).replace("%", " %")
    environment.filters["change"] = lambda value: f"{value * 100:+.1f}" if words.share else f"{value:+.3f}"
    environment.filters["allowed"] = lambda value: f"−{value * 100 if words.share else value:g}"
    environment.filters["times"] = lambda value: f"{value:.2f}×"
    environment.filters["count"] = lambda value: f"{value:,}"
    environment.filters["ms"] = lambda value: f"{value:.2f}"
    environment.filters["mb"] = lambda value: f"{value:.1f}"
    environment.filters["tiny"] = lambda value: f"{value:.1e}"
    environment.globals |= {
        "words": words,
        "points": " points" if words.share else "",
        "metrics": METRICS,
        "others": next(iter(report["other_metrics"].values())),
    }
    return environment
