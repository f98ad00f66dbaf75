"""The report's pictures, as inline SVG: each for a wide and for a narrow screen, and in words."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..metrics import METRICS, Metric
from ..plain import plain
from . import phases
from .phases import Phase

WIDTHS = {"wide": 13.0, "narrow": 4.6}
"""Inches of 72 units: a narrow picture fills a phone, where a unit is a pixel."""
KEPT, REMOVED, INK, LINE = "#0f766e", "#cbd5e1", "#334155", "#94a3b8"
_COLOURS = {KEPT: "var(--accent)", REMOVED: "var(--removed)", INK: "var(--ink)", LINE: "var(--line)"}
"""The page's own colours, which know light and dark."""
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["system-ui", "sans-serif", "DejaVu Sans"],
    "font.size": 12,
    "axes.titlesize": 12,
    "text.color": INK,
    "text.parse_math": False,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "dsee",
}


@dataclass(frozen=True)
class Picture:
    """SVG text for two widths of the screen."""

    wide: str
    narrow: str


def draw(report: dict[str, Any]) -> dict[str, Picture]:
    """`structure`, `metric` and `latency`, and the latency of each device as `device_0`, `device_1`, …

    Of decoders, `latency` is that of prompts, and `decode`, `device_0_decode`, … that of the tokens after them.
    """
    words = METRICS[report["task"]["metric"]]
    structure, accuracy = report["structure"], report["accuracy"]
    latencies = {
        _name(place, phase): phase
        for place, rows in _measured(report).items()
        for phase in phases.of(rows, "writing" in report)
    }
    return {
        "structure": _picture("structure", _describe_structure(structure), lambda width: _structure(structure, width)),
        "metric": _picture(
            "metric", _describe_accuracy(accuracy, words), lambda width: _accuracy(accuracy, words, width)
        ),
        **{
            name: _picture(name, _describe_latency(phase), lambda width, phase=phase: _latency(phase, width))  # type: ignore[misc]
            for name, phase in latencies.items()
        },
    }


def _measured(report: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Rows of what was timed here, if anything was, and on each device."""
    return ({"latency": report["latency"]} if report["latency"] else {}) | {
        f"device_{index}": device["latency"] for index, device in enumerate(report["devices"])
    }


def _name(place: str, phase: Phase) -> str:
    """A picture's: `latency`, `decode`, `device_0`, `device_0_decode`."""
    if place == "latency":
        return phase.name
    return place if phase.name == "latency" else f"{place}_{phase.name}"


def _structure(structure: dict[str, Any], width: float) -> Figure:
    layers = len(structure["heads"])
    height = 0.9 + 0.32 * layers
    beside = width > WIDTHS["narrow"]
    figure, (heads, neurons) = plt.subplots(
        *((1, 2) if beside else (2, 1)),
        figsize=(width, height if beside else 2 * height),
        layout="constrained",
        width_ratios=[3, 2] if beside else None,
    )
    for layer, (kept, total) in enumerate(zip(structure["kept_heads"], structure["dense_heads"], strict=True)):
        colours = [KEPT if head in kept else REMOVED for head in range(total)]
        heads.barh([layer] * total, [0.86] * total, left=range(total), height=0.78, color=colours)
    heads.set(title="attention heads (strong: kept)", xlabel="head")
    widest = max(structure["dense_heads"])
    numbered = range(0, widest, 1 + widest // 12)
    heads.set_xticks([number + 0.43 for number in numbered], [str(number) for number in numbered])
    neurons.barh(range(layers), structure["dense_neurons"], height=0.78, color=REMOVED)
    neurons.barh(range(layers), structure["neurons"], height=0.78, color=KEPT)
    for layer, (kept, total) in enumerate(zip(structure["neurons"], structure["dense_neurons"], strict=True)):
        neurons.annotate(f"{kept:,}", (total, layer), (5, 0), textcoords="offset points", va="center")
    neurons.set(title="FFN neurons (strong: kept)", xlabel="neurons", xlim=(0, 1.18 * max(structure["dense_neurons"])))
    neurons.locator_params(axis="x", nbins=4)
    figure.get_layout_engine().set(h_pad=0.1)
    for axes in (heads, neurons):
        axes.set(yticks=range(layers), ylim=(layers - 0.5, -0.5))
        axes.set_yticklabels([f"layer {layer}" for layer in range(layers)])
        axes.tick_params(length=0)
        axes.spines[["left", "bottom"]].set_visible(False)
    return figure


def _accuracy(accuracy: dict[str, Any], words: Metric, width: float) -> Figure:
    scale = words.scale
    figure, axes = plt.subplots(figsize=(width, 0.9 + 0.55 * len(accuracy)), layout="constrained")
    for row, entry in enumerate(accuracy.values()):
        low, high = entry["ci95"]
        axes.plot([low * scale, high * scale], [row, row], color=KEPT, linewidth=3, alpha=0.45, solid_capstyle="round")
        axes.plot(entry["value"] * scale, row, "o", color=KEPT, markersize=8)
        _annotate(axes, words.figure(entry["value"], digits=1), entry["value"] * scale, row)
    _name_rows(axes, list(accuracy))
    axes.set_xlabel(f"{words.title}{words.unit and ', ' + words.unit} (line: 95 % interval)")
    return figure


def _latency(timed: Phase, width: float) -> Figure:
    rows = timed.rows
    figure, axes = plt.subplots(figsize=(width, 0.9 + 0.75 * len(rows)), layout="constrained")
    calls = [_calls(row) for row in rows]
    parts = axes.violinplot(calls, positions=range(len(rows)), orientation="horizontal", showextrema=False, widths=0.7)
    for body in parts["bodies"]:
        body.set(facecolor=KEPT, edgecolor="none", alpha=0.3)
    for position, (row, values) in enumerate(zip(rows, calls, strict=True)):
        axes.plot(values, [position] * len(values), "|", color=KEPT, markersize=10)
        axes.plot(row["p50_ms"], position, "o", color=INK, markersize=8)
        _annotate(axes, f"{row['p50_ms']:.1f} ms", row["p50_ms"], position)
    _name_rows(axes, [row["artifact"] for row in rows])
    axes.set_xlim(left=0)
    axes.set_xlabel(f"ms a {timed.unit} (tick: one call; dot: median)")
    return figure


def _annotate(axes: Axes, text: str, x: float, row: int) -> None:
    axes.annotate(text, (x, row), (0, 12), textcoords="offset points", ha="center")


def _calls(row: dict[str, Any]) -> list[float]:
    return [call for block in row["raw_ms"] for call in block]


def _name_rows(axes: Axes, names: list[str]) -> None:
    axes.set(yticks=range(len(names)), ylim=(len(names) - 0.4, -0.7))
    axes.set_yticklabels([plain(name).replace("_", " ") for name in names])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=LINE, linewidth=0.8, alpha=0.5)
    axes.set_axisbelow(True)


def _describe_structure(structure: dict[str, Any]) -> str:
    kept = zip(
        structure["heads"], structure["dense_heads"], structure["neurons"], structure["dense_neurons"], strict=True
    )
    layers = [
        f"layer {layer}: {heads} of {all_heads} heads, {neurons:,} of {all_neurons:,} neurons"
        for layer, (heads, all_heads, neurons, all_neurons) in enumerate(kept)
    ]
    return f"Kept of each layer. {'; '.join(layers)}."


def _describe_accuracy(accuracy: dict[str, Any], words: Metric) -> str:
    models = [
        f"{name.replace('_', ' ')}: {words.figure(entry['value'], digits=1)} "
        f"({' to '.join(words.figure(end, digits=1) for end in entry['ci95'])})"
        for name, entry in accuracy.items()
    ]
    return f"{words.heading} with 95 % intervals. {'; '.join(models)}."


def _describe_latency(timed: Phase) -> str:
    artifacts = [
        f"{row['artifact'].replace('_', ' ')}: median {row['p50_ms']:.1f} ms, fastest {min(_calls(row)):.1f}, "
        f"slowest {max(_calls(row)):.1f}"
        for row in timed.rows
    ]
    return f"Latency of every {timed.unit}. {'; '.join(artifacts)}."


def _picture(name: str, description: str, plot: Callable[[float], Figure]) -> Picture:
    with plt.style.context(["default", _STYLE]):  # whatever a matplotlibrc of the user's, or of this folder, says
        return Picture(
            **{screen: _svg(plot(width), f"{name}-{screen}", description) for screen, width in WIDTHS.items()}
        )


def _svg(figure: Figure, name: str, description: str) -> str:
    """The figure's SVG with ids of its own, so that many stand on one page, and with the page's colours."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    plt.close(figure)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{name}-", svg)
    for colour, variable in _COLOURS.items():
        svg = svg.replace(colour, variable)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(plain(description))}" ', 1)
