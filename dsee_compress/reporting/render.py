"""report.json to Markdown and to one HTML file."""

import re
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .. import metrics
from ..plain import plain
from . import phases
from .figures import Picture

PART_NAMES = {
    "embeddings": "embeddings",
    "attention": "attention",
    "ffn": "FFN",
    "task_head": "task head",
    "rest": "graph and the rest",
}


def headline(report: dict[str, Any]) -> dict[str, Any]:
    """What the report says first: the fastest of the exported artifacts against the baseline, of decoders a token.

    Where latency was not measured, the smallest is the best, and `speedup` and `rows` are None. What was validated goes
    before what was not; where nothing was, the figures of `accuracy` are None.
    """
    files = {file["artifact"]: file for file in report["files"]}
    reference = report["latency_reference"]
    ours = [name for name, file in files.items() if not file["baseline"]]
    ours = [name for name in ours if _validated_as(name) in report["accuracy"]] or ours
    timed = {row["artifact"]: row for row in report["latency"]}
    best = (
        max(ours, key=lambda name: _speedup(timed[name])["value"])
        if timed
        else min(ours, key=lambda name: files[name]["size_mb"])
    )
    dense = report["accuracy"]["dense_finetuned"]["value"]
    model = _validated_as(best)
    accuracy = report["accuracy"].get(model)
    return {
        "artifact": best,
        "model": model,
        "speedup": _speedup(timed[best]) if timed else None,
        "accuracy": accuracy and accuracy["value"],
        "accuracy_ci95": accuracy and accuracy["ci95"],
        "accuracy_change": accuracy and accuracy["value"] - dense,
        "times_smaller": files[reference]["size_mb"] / files[best]["size_mb"],
        "baseline": reference,
        "files": {"best": files[best], "baseline": files[reference]},
        "rows": {"best": timed[best], "baseline": timed[reference]} if timed else None,
    }


def _validated_as(artifact: str) -> str:
    """What validation calls an artifact of the benchmark: pruned_int8 is onnx_int8."""
    return f"onnx_{artifact.partition('_')[2]}"


def _speedup(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = row.get("decode", row)["speedup"]
    return found


def markdown(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    return page("report.md.jinja", report)


def page(template: str, report: dict[str, Any], **beside: Any) -> str:
    """A report in a template of Markdown, which is told more than that."""
    return _environment(report).get_template(template).render(report=report, headline=headline(report), **beside)


def html(report: dict[str, Any], figures: dict[str, Picture]) -> str:
    """The report as one HTML file that needs no network."""
    template = _environment(report, autoescape=True).get_template("report.html.jinja")
    return template.render(report=report, headline=headline(report), figures=figures)


def ours_beside(report: dict[str, Any], row: dict[str, Any]) -> float | None:
    """Our own median, in ms, of what a device's row measured; None if we measured it in no such setting."""
    setting = ("artifact", "batch", "sequence_length")
    rows = report["latency"] + report["latency_grid"]
    same = [ours for ours in rows if all(ours[name] == row[name] for name in setting)]
    return same[0]["p50_ms"] if same else None


def versions(reader: dict[str, Any]) -> str:
    """What of a reader is installed, in words."""
    return ", ".join(f"{package} {version}" for package, version in reader["versions"].items())


def equal(reader: dict[str, Any]) -> str:
    """What of a reader's answers is as ours, or why it was not asked."""
    if "not_tried" in reader:
        return f"not tried: {reader['not_tried']}"
    within = f", within {reader['max_abs']:.1e}" if reader["max_abs"] else ""
    return f"{reader['compared']} of {reader['texts']} texts{within}"


def _environment(report: dict[str, Any], autoescape: bool = False) -> Environment:
    words = metrics.named(report["task"]["metric"])
    environment = Environment(
        loader=PackageLoader("dsee_compress", "reporting"),
        autoescape=autoescape,
        finalize=_text_of_html if autoescape else _text_of_markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value, digits=1: f"{value * 100:.{digits}f} %"
    environment.filters["figure"] = lambda value, words=words: words.figure(value, digits=1).replace("%", " %")
    environment.filters["change"] = lambda value: _minus(words.figure(value, "+", digits=1).removesuffix(words.unit))
    environment.filters["allowed"] = lambda value: _minus(f"{words.allowed(value) * words.scale:+g}")
    environment.filters["times"] = lambda value: f"{value:.2f}×"
    environment.filters["count"] = lambda value: f"{value:,}"
    environment.filters["ms"] = lambda value: "not measured" if value is None else f"{value:.2f}"
    environment.filters["mb"] = lambda value: f"{value:.1f}"
    environment.filters["bytes"] = lambda value: f"{value:,} bytes"
    environment.filters["tiny"] = lambda value: f"{value:.1e}"
    environment.filters["slowest"] = lambda row: f"{max(map(max, row['raw_ms'])):.2f}"
    environment.filters["line"] = lambda text: " ".join(text.split())
    environment.filters["plainly"] = _plainly
    environment.filters["versions"] = versions
    environment.filters["equal"] = equal
    environment.filters["ordered"] = ordered
    environment.globals |= {
        "words": words,
        "points": " points" if words.scale == 100 else "",
        "metric": metrics.named,
        "writing": report.get("writing"),
        "phases_of": lambda rows: phases.of(rows, "writing" in report),
        "other_titles": [metrics.named(name).title for name in next(iter(report["other_metrics"].values()))],
        "part_names": PART_NAMES,
        "ours_beside": ours_beside,
    }
    return environment


def ordered(told: Mapping[str, Any]) -> str:
    """What the device allows, what the table said that the model takes of it, and what it takes."""
    order, measured = told["order"], told["measured"]
    low, high = measured["ci95"]
    asked = f"{order['precision']} in {order['budget']:.3g} {order['unit']}"
    if order["unit"] == "ms":
        shape = f"{order['batch']} × {order['sequence_length']} tokens, {order['threads']} threads"
        asked += f" ({order['dense'] / order['budget']:.2f} times as fast as dense; {shape})"
    around = f" ({low:.3g} to {high:.3g})" if high > low else ""
    return (
        f"{asked}: {order['predicted']:.3g} by the table of what layers cost, {measured['value']:.3g}{around} measured"
    )


def _text_of_html(value: Any) -> Any:
    """What stands in `{{ }}`, before it is escaped: in HTML a line end is a space."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else plain(value, keep="\n\t")


def _text_of_markdown(value: Any) -> Any:
    """What stands in `{{ }}`, as Markdown that says no more than its letters."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else _SPECIAL.sub(r"\\\g<0>", plain(value))


_SPECIAL = re.compile(r"[\\`*{}\[\]<>|~$&]|(?<!\w)_|_(?!\w)")
"""What means something in Markdown, in the middle of a line; not an underscore within a word."""


def _minus(figure: str) -> str:
    return figure.replace("-", "−")


def _plainly(value: Any) -> str:
    """An option or a fact as a reader writes it: lists and maps without quotes and brackets, "none" for nothing."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={_plainly(part)}" for name, part in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_plainly, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
