"""What the commands print on stdout."""

from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.table import Table

from dsee_compress.plain import plain
from dsee_compress.progress import TextConsole

out = TextConsole()


def line(text: str) -> None:
    """A line of its own, however long."""
    print(plain(text))


def wrote(folder: Path) -> None:
    """The last line of every command that writes."""
    line(f"wrote {folder}")


def facts(title: str, rows: dict[str, Any]) -> None:
    """A table of two columns."""
    table = Table(title=title, title_justify="left", show_header=False)
    for _ in range(2):
        table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, f"{value:.6g}" if isinstance(value, float) else str(value))
    out.print(table)


def listing(title: str, header: list[str], rows: list[list[str]], figures: bool = True) -> None:
    """A table with a header; `figures` stand to the right, words to the left."""
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if figures and index else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table)


def measured(values: dict[str, float]) -> dict[str, str]:
    """A manifest's metrics of the validation split, as facts."""
    from dsee_compress import metrics  # numpy comes with it, and --help shall not wait for that

    named = [(metrics.named(name), value) for name, value in values.items()]
    return {f"validation {metric.title}": metric.figure(value) for metric, value in named}


def accuracy(title: str, metric: str, result: dict[str, Any]) -> None:
    """The metrics and gates of validation.json or report.json; `metric` is the task's own."""
    from dsee_compress import metrics

    words = metrics.named(metric)
    rows = []
    for name, entry in result["accuracy"].items():
        others = result["other_metrics"][name]
        interval = " to ".join(words.figure(end) for end in entry["ci95"])
        row = [words.figure(entry["value"]), interval]
        rows.append([name, *row, *(metrics.named(other).figure(value) for other, value in others.items())])
    listing(title, ["", words.title, "95 %", *(metrics.named(other).title for other in others)], rows)
    for gate in result["gates"]:
        if gate["change"] is None:
            reason = result["not_validated"][gate["candidate"]]
            print(f"{gate['gate']}: {gate['candidate']} against {gate['reference']}: {gate['verdict']}, {reason}")
            continue
        change, low, high = (words.figure(value, "+") for value in (gate["change"]["value"], *gate["change"]["ci95"]))
        line(
            f"{gate['gate']}: {gate['candidate']} {change} ({low} to {high}) against {gate['reference']}, "
            f"allowed {words.figure(words.allowed(gate['allowed_drop']))}: {gate['verdict']}"
        )


def readers(rows: list[dict[str, Any]]) -> None:
    """What other libraries made of the folder, of validation.json or report.json."""
    from dsee_compress.reporting import render

    for row in rows:
        line(f"readers: {row['reader']} ({render.versions(row)}), {row['artifact']}: {render.equal(row)}")


def latency(rows: list[dict[str, Any]], reference: str, environment: dict[str, Any]) -> None:
    """The rows of benchmark.json or report.json, one table a setting, and the machine that they were measured on."""
    for setting, some in groupby(rows, lambda row: (row["batch"], row["sequence_length"], row["threads"])):
        of_setting = list(some)
        columns = (_OF_PROMPTS_AND_STEPS if "decode" in of_setting[0] else _OF_CALLS) + _OF_ALL
        header = ["", *(heading.format(reference) for heading, _ in columns)]
        lines = [[row["artifact"], *(cell(row) for _, cell in columns)] for row in of_setting]
        listing("batch {}, {} tokens, {} threads".format(*setting), header, lines)
    if rows:
        libraries = environment["libraries"]
        runtime = libraries.get("onnxruntime") or libraries["onnxruntime-gpu"]
        line(
            f"measured on {environment['cpu']}, {environment['usable_cores']} of {environment['logical_cores']} cores, "
            f"provider {environment['provider']}, onnxruntime {runtime}"
        )


def _speedup(timed: dict[str, Any]) -> str:
    low, high = timed["speedup"]["ci95"]
    return f"{timed['speedup']['value']:.2f} ({low:.2f} to {high:.2f})"


_Column = tuple[str, Callable[[dict[str, Any]], str]]
"""Its heading, with the reference's name in it, and what stands in it of a row."""
_OF_CALLS: list[_Column] = [
    ("p50 ms", lambda row: f"{row['p50_ms']:.2f}"),
    ("p95", lambda row: f"{row['p95_ms']:.2f}"),
    ("p99", lambda row: f"{row['p99_ms']:.2f}"),
    ("times {}", _speedup),
    ("first ms", lambda row: f"{row['cold_start_ms']:.0f}"),
]
_OF_PROMPTS_AND_STEPS: list[_Column] = [
    ("first token ms", lambda row: f"{row['time_to_first_token_ms']:.2f}"),
    ("times {}", _speedup),
    ("ms a token", lambda row: f"{row['decode_ms_per_token']:.2f}"),
    ("tokens/s", lambda row: f"{row['tokens_per_second']:.0f}"),
    ("times {}", lambda row: _speedup(row["decode"])),
]
_OF_ALL: list[_Column] = [
    ("RSS MB", lambda row: f"{row['peak_rss_mb']:.0f}"),
    ("MB", lambda row: f"{row['size_mb']:.1f}"),
]
