"""The README's table and picture of a run, from its report.json.

python -m tests.benchmarks.picture runs/quickstart/report.json samples/quickstart.svg
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt

ACCURACY_OF = {"dense_fp32": "dense_finetuned", "pruned_fp32": "onnx_fp32", "pruned_int8": "onnx_int8"}
COLOURS = ["#94a3b8", "#14b8a6", "#0f766e"]


def table(report: dict) -> str:
    """One line an artifact."""
    lines = [
        "| | accuracy (95 %) | median latency, ms | times as fast (95 %) | size, MB | peak memory, MB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in report["latency"]:
        accuracy, speedup = report["accuracy"][ACCURACY_OF[row["artifact"]]], row["speedup"]
        low, high = accuracy["ci95"]
        lines.append(
            f"| {row['artifact'].replace('_', ' ')} | {accuracy['value']:.1%} ({low:.1%} to {high:.1%}) "
            f"| {row['p50_ms']:.1f} | {speedup['value']:.2f} ({speedup['ci95'][0]:.2f} to {speedup['ci95'][1]:.2f}) "
            f"| {row['size_mb']:.1f} | {row['peak_rss_mb']:.0f} |"
        )
    return "\n".join(lines)


def draw(report: dict, path: Path) -> None:
    """Accuracy with intervals, median latency and size, side by side."""
    rows = report["latency"]
    names = [row["artifact"].replace("_", " ") for row in rows]
    accuracies = [report["accuracy"][ACCURACY_OF[row["artifact"]]] for row in rows]
    style = {"svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "dsee", "font.size": 11}
    with plt.rc_context(style):
        figure, panels = plt.subplots(1, 3, figsize=(10, 2.4), sharey=True)
        values = [100 * entry["value"] for entry in accuracies]
        errors = [
            [value - 100 * entry["ci95"][0] for value, entry in zip(values, accuracies, strict=True)],
            [100 * entry["ci95"][1] - value for value, entry in zip(values, accuracies, strict=True)],
        ]
        series = [
            ("accuracy, % (line: 95 %)", values, errors, "{:.1f}"),
            ("median latency, ms", [row["p50_ms"] for row in rows], None, "{:.1f}"),
            ("size, MB", [row["size_mb"] for row in rows], None, "{:.0f}"),
        ]
        for axes, (title, figures, error, form) in zip(panels, series, strict=True):
            axes.barh(names, figures, color=COLOURS, xerr=error, error_kw={"ecolor": "#334155"}, height=0.6)
            for position, figure_value in enumerate(figures):
                text = form.format(figure_value)
                axes.text(figure_value * 0.02, position, text, va="center", color="white", weight="bold")
            axes.set_title(title, fontsize=11, loc="left", color="#334155")
            axes.tick_params(length=0, colors="#334155")
            axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
            axes.xaxis.set_visible(False)
        panels[0].invert_yaxis()
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    content = json.loads(Path(sys.argv[1]).read_text())
    print(table(content))
    draw(content, Path(sys.argv[2]))
