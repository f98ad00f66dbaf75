"""The report's pictures, as inline SVG."""

import io
import re
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .wording import METRICS, Wording

KEPT, REMOVED, INK = "#0f766e", "#e2e8f0", "#334155"
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["system-ui", "sans-serif", "DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#cbd5e1",
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "dsee",
}


def draw(report: dict[str, Any]) -> dict[str, str]:
    """SVG text of `structure`, `accuracy` and `latency`."""
    words = METRICS[report["task"]["metric"]]
    with plt.rc_context(_STYLE):
        return {
            "structure": _svg(_structure(report["structure"]), "Kept heads and neurons by layer"),
            "accuracy": _svg(_accuracy(report["accuracy"], words), f"{words.heading} with 95 % intervals"),
            "latency": _svg(_latency(report["latency"]), "Latency of every call, by artifact"),
        }


def _structure(structure: dict[str, Any]) -> Figure:
    layers = len(structure["heads"])
    figure, (heads, neurons) = plt.subplots(
        1, 2, figsize=(9, 0.8 + 0.32 * layers), sharey=True, gridspec_kw={"width_ratios": [3, 2]}
    )
    for layer, (kept, total) in enumerate(zip(structure["kept_heads"], structure["dense_heads"], strict=True)):
        colours = [KEPT if head in kept else REMOVED for head in range(total)]
        heads.barh([layer] * total, [0.86] * total, left=range(total), height=0.78, color=colours)
    heads.set(title="attention heads (dark: kept)", xlabel="head", yticks=range(layers), ylim=(layers - 0.5, -0.5))
    heads.set_yticklabels([f"layer {layer}" for layer in range(layers)])
    neurons.barh(range(layers), structure["dense_neurons"], height=0.78, color=REMOVED)
    bars = neurons.barh(range(layers), structure["neurons"], height=0.78, color=KEPT)
    neurons.bar_label(bars, padding=3, fontsize=9, color=INK)
    neurons.set(title="FFN neurons (dark: kept)", xlabel="neurons")
    for axes in (heads, neurons):
        axes.tick_params(length=0)
        axes.spines[["left", "bottom"]].set_visible(False)
    return figure


def _accuracy(accuracy: dict[str, Any], words: Wording) -> Figure:
    scale = 100 if words.share else 1
    figure, axes = plt.subplots(figsize=(9, 0.9 + 0.42 * len(accuracy)))
    for row, entry in enumerate(accuracy.values()):
        low, high = entry["ci95"]
        axes.plot([low * scale, high * scale], [row, row], color=KEPT, linewidth=3, alpha=0.35, solid_capstyle="round")
        axes.plot(entry["value"] * scale, row, "o", color=KEPT)
        axes.annotate(
            words.figure(entry["value"], digits=1),
            (entry["value"] * scale, row),
            (0, 7),
            textcoords="offset points",
            ha="center",
        )
    _name_rows(axes, list(accuracy))
    axes.set_xlabel(f"{words.title}{', %' if words.share else ''} (line: 95 % interval)")
    return figure


def _latency(rows: list[dict[str, Any]]) -> Figure:
    figure, axes = plt.subplots(figsize=(9, 0.9 + 0.6 * len(rows)))
    calls = [[call for block in row["raw_ms"] for call in block] for row in rows]
    parts = axes.violinplot(calls, positions=range(len(rows)), orientation="horizontal", showextrema=False, widths=0.8)
    for body in parts["bodies"]:
        body.set(facecolor=KEPT, alpha=0.3)
    for position, (row, values) in enumerate(zip(rows, calls, strict=True)):
        axes.plot(values, [position] * len(values), "|", color=KEPT, alpha=0.5, markersize=7)
        axes.plot(row["p50_ms"], position, "o", color=INK)
        axes.annotate(
            f"{row['p50_ms']:.1f} ms",
            (row["p50_ms"], position),
            (0, 10),
            textcoords="offset points",
            ha="center",
        )
    _name_rows(axes, [row["artifact"] for row in rows])
    axes.set_xlim(left=0)
    axes.set_xlabel("milliseconds a call (tick: one call; dot: median)")
    return figure


def _name_rows(axes: Axes, names: list[str]) -> None:
    axes.set(yticks=range(len(names)), ylim=(len(names) - 0.4, -0.6))
    axes.set_yticklabels([name.replace("_", " ") for name in names])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e2e8f0", linewidth=0.8)
    axes.set_axisbelow(True)


def _svg(figure: Figure, title: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None})
    plt.close(figure)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
