"""Measure the model in this folder on this machine: latency, cold start, peak memory; writes latency.json.

Needs numpy and onnxruntime for the model, and for the cold start what predict.py needs. The calls are those of
`dsee-compress benchmark`: random tokens, one session alone, warm-up discarded, every sample kept.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

try:
    if TYPE_CHECKING or __package__:
        from ..runtime import calls, machine, opened
        from ..runtime.opened import are_texts, is_number
        from ..runtime.usage import UsageError, shown
    else:  # in a bundle, whatever Python was told of its folder
        sys.path.insert(0, str(Path(__file__).resolve().parent))
        import calls
        import machine
        import opened
        from opened import are_texts, is_number
        from usage import UsageError, shown
except ImportError as missing:
    print(f"error: {missing.name} is not installed; pip install -r requirements.txt", file=sys.stderr)
    sys.exit(2)

SCHEMA = 1
FOLDER = Path(__file__).resolve().parent
COLD_STARTS = 5


FIELDS: opened.Fields = {
    "artifact": lambda value: isinstance(value, str),
    "export": lambda value: isinstance(value, str),
    "answer": lambda value: isinstance(value, str),
    "text": are_texts,
    "inputs": are_texts,
    "padding": lambda value: isinstance(value, dict) and is_number(value.get("id")),
    "vocabulary_size": lambda value: is_number(value, 2),
    "longest_input": lambda value: is_number(value, 3),
}
"""What bundle.json holds, as far as it is needed here, and whether a value can be that."""


def cold_start_ms(bundle: dict[str, Any], threads: int) -> float:
    """Median milliseconds from the start of a fresh predict.py to its first answer, to one short text."""
    command = [sys.executable, str(FOLDER / "predict.py"), "--threads", str(threads)]
    taken = []
    with tempfile.TemporaryFile("w+", encoding="utf-8") as given:
        given.write("\t".join("hello" for _ in bundle["text"]) + "\n")
        for _ in range(COLD_STARTS):
            given.seek(0)
            started = time.perf_counter_ns()
            with subprocess.Popen(command, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
                answer = process.stdout.readline() if process.stdout else b""
                taken.append((time.perf_counter_ns() - started) / 1e6)
                _, said = process.communicate()
            if not answer:
                raise UsageError(f"predict.py gave no answer ({' '.join(said.decode(errors='replace').split())})")
    return statistics.median(taken)


def size_mb() -> float:
    """Size of the model on disk in MB (10⁶ bytes), external data included."""
    files = [FOLDER / "model.onnx", *FOLDER.glob("model*.onnx*data")]
    return sum(file.stat().st_size for file in files) / 1e6


def writes(bundle: dict[str, Any]) -> bool:
    """Whether the model writes texts, token by token, where others answer in one call."""
    return bool(bundle["answer"] == "text")


def measure(bundle: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """The content of latency.json; its row is as one of report.json, with one round of samples."""
    row = {
        "artifact": bundle["artifact"],
        "provider": "cpu",
        "threads": arguments.threads,
        "batch": arguments.batch,
        "sequence_length": arguments.sequence_length,
    }
    for phase in calls.PHASES_OF_WRITING if writes(bundle) else calls.PHASES:
        # One session alone: it is gone with its call.
        samples = calls.time_calls(phase.open(FOLDER, bundle, arguments), arguments)
        figures = calls.figures(samples, arguments.batch)
        row.update(figures if phase.under is None else {phase.under: figures})
    row["peak_rss_mb"] = machine.peak_rss_mb()
    if writes(bundle):
        row |= _of_writing(bundle, arguments, row)
    return {
        "schema": SCHEMA,
        "bundle": bundle["export"],
        "artifact": bundle["artifact"],
        "latency": [{**row, "size_mb": size_mb(), "cold_start_ms": cold_start_ms(bundle, arguments.threads)}],
        "environment": machine.environment(arguments.threads),
    }


def _of_writing(bundle: dict[str, Any], arguments: argparse.Namespace, row: dict[str, Any]) -> dict[str, Any]:
    """The names that figures of writing go by, and what is remembered of a token."""
    return {
        "new_tokens": arguments.new_tokens,
        "time_to_first_token_ms": row["p50_ms"],
        "decode_ms_per_token": row["decode"]["p50_ms"],
        "tokens_per_second": row["decode"]["throughput"],
        "memory_bytes_per_token": calls.Writing(FOLDER, bundle, arguments).bytes_per_token(),
    }


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see python {self.prog} --help")


def _whole(least: int, most: int = 1_000_000) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not value.isdecimal() or not least <= int(value) <= most:
            raise argparse.ArgumentTypeError(f"{value!r} is not a whole number from {least} to {most}")
        return int(value)

    return parse


def _arguments(bundle: dict[str, Any]) -> argparse.Namespace:
    usual_new = min(32, bundle["longest_input"] // 2) if writes(bundle) else 0
    longest = bundle["longest_input"] - writes(bundle)
    parser = _Parser(
        description="Measure the model in this folder; writes latency.json.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--batch", type=_whole(1), default=1, help="sequences a call")
    parser.add_argument(
        "--sequence-length",
        type=_whole(2, longest),
        default=min(128, bundle["longest_input"] - usual_new),
        help="tokens a sequence or prompt",
    )
    parser.add_argument(
        "--threads", type=_whole(1, os.cpu_count() or 1), default=machine.physical_cores(), help="threads of a call"
    )
    if writes(bundle):
        parser.add_argument("--new-tokens", type=_whole(1, longest), default=usual_new, help="tokens after a prompt")
    parser.add_argument("--samples", type=_whole(10), default=100, help="timed calls")
    parser.add_argument("--warmup", type=_whole(0), default=5, help="untimed calls before them")
    parser.add_argument("--output", type=Path, default=Path("latency.json"), help="file to write")
    arguments = parser.parse_args()
    if writes(bundle) and arguments.sequence_length + arguments.new_tokens > bundle["longest_input"]:
        raise UsageError(
            f"{arguments.sequence_length} tokens and {arguments.new_tokens} new ones are more than the "
            f"{bundle['longest_input']} that the model reads; give less of --sequence-length or --new-tokens"
        )
    output: Path = arguments.output
    if not output.parent.is_dir():
        raise UsageError(f"there is no folder {output.parent} for the output")
    if output.exists() and not output.is_file():
        raise UsageError(f"the output {output} is no file that could be replaced; give another")
    return arguments


def _write(content: dict[str, Any], output: Path) -> None:
    partial = output.with_name(f".{output.name}.partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(output)


def _tell(content: dict[str, Any], output: Path) -> None:
    row = content["latency"][0]
    print(
        f"{row['artifact']}, batch {row['batch']}, {row['sequence_length']} tokens, {row['threads']} threads: "
        f"median {row['p50_ms']:.2f} ms, p95 {row['p95_ms']:.2f} ms, first answer after {row['cold_start_ms']:.0f} ms, "
        f"peak memory {row['peak_rss_mb']:.0f} MB"
    )
    if "decode" in row:
        print(
            f"after it {row['decode_ms_per_token']:.2f} ms a token, {row['tokens_per_second']:.1f} tokens a second, "
            f"{row['memory_bytes_per_token']} bytes remembered a token"
        )
    print(f"wrote {shown(output)}", flush=True)


def main() -> int:
    """Run with the shell's arguments; returns 0, or 2 for a mistake in what was asked for."""
    try:
        bundle = opened.read(FOLDER, FIELDS)
        arguments = _arguments(bundle)
        content = measure(bundle, arguments)
        _write(content, arguments.output)
        _tell(content, arguments.output)
    except BrokenPipeError:  # who reads what is printed has enough of it; the file is written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (UsageError, OSError) as error:
        print(f"error: {shown(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
