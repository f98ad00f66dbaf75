"""Measure the model in this folder on this machine: latency, cold start, peak memory; writes latency.json.

Needs numpy and onnxruntime for the model, and for the cold start what predict.py needs. The calls are those of
`dsee-compress benchmark`: random tokens, one session alone, warm-up discarded, every sample kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

try:
    import numpy as np
    import onnxruntime
except ImportError as missing:
    print(f"error: {missing.name} is not installed; pip install -r requirements.txt", file=sys.stderr)
    sys.exit(2)

SCHEMA = 1
FOLDER = Path(__file__).resolve().parent
COLD_STARTS = 5
LIBRARIES = ("numpy", "onnxruntime", "tokenizers")
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve")


class UsageError(Exception):
    """A mistake in what was asked for: one sentence."""


def random_batch(bundle: dict[str, Any], batch: int, length: int) -> dict[str, Any]:
    """The model's inputs, int64 arrays (batch, length): the same random tokens in every run.

    The first row fills its length; each other is cut at a random one, every third at its start, not at its end.
    """
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, length + 1, size=batch)
    lengths[0] = length
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    mask[2::3] = mask[2::3, ::-1]
    vocabulary = bundle["vocabulary_size"]
    tokens = generator.integers(min(1000, vocabulary // 2), vocabulary, size=(batch, length))
    arrays = {
        "input_ids": np.where(mask == 1, tokens, bundle["padding"]["id"]).astype(np.int64),
        "attention_mask": mask,
        "token_type_ids": np.zeros((batch, length), np.int64),
    }
    return {name: arrays[name] for name in bundle["inputs"]}


def time_calls(bundle: dict[str, Any], arguments: argparse.Namespace) -> list[float]:
    """Milliseconds of each call, in their order, with one session that ends with them."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = arguments.threads
    try:
        session = onnxruntime.InferenceSession(str(FOLDER / "model.onnx"), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base class
        raise UsageError(f"the model in {FOLDER} cannot be loaded ({str(error).splitlines()[0]})") from error
    inputs = random_batch(bundle, arguments.batch, arguments.sequence_length)
    for _ in range(arguments.warmup):
        session.run(["logits"], inputs)
    samples = []
    for _ in range(arguments.samples):
        started = time.perf_counter_ns()
        session.run(["logits"], inputs)
        samples.append((time.perf_counter_ns() - started) / 1e6)
    return samples


def summarise(samples: list[float], batch: int) -> dict[str, float]:
    """Mean, deviation, percentiles (milliseconds) and sequences a second."""
    percentiles = np.percentile(samples, [50, 90, 95, 99])
    return {
        "mean_ms": statistics.fmean(samples),
        "stdev_ms": statistics.stdev(samples),
        **{f"p{share}_ms": float(value) for share, value in zip((50, 90, 95, 99), percentiles)},
        "throughput": batch / statistics.fmean(samples) * 1000,
    }


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


def peak_rss_mb() -> float:
    """Peak resident memory of this process in MB (10⁶ bytes).

    Linux's VmHWM starts anew with the program; ru_maxrss still holds that of the process which started it.
    """
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    if peaks:
        return peaks[0] * 1024 / 1e6
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def size_mb() -> float:
    """Size of the model on disk in MB (10⁶ bytes), external data included."""
    files = [FOLDER / "model.onnx", *FOLDER.glob("model*.onnx*data")]
    return sum(file.stat().st_size for file in files) / 1e6


def physical_cores() -> int:
    """Cores that this process may use, hyper-threads not counted where the system tells them apart."""
    siblings = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings_list")
    cores = len({path.read_text(encoding="utf-8") for path in siblings}) or os.cpu_count() or 1
    return min(cores, len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else cores


def environment(arguments: argparse.Namespace) -> dict[str, Any]:
    """CPU, memory, system and library versions."""
    facts = _cpu_facts()
    flags = {flag.replace("avx512vnni", "avx512_vnni") for flag in facts.get("flags", "").split()}
    flags |= set(facts.get("Features", "").split())
    name = facts.get("model name") or facts.get("Model") or platform.processor() or platform.machine()
    return {
        "cpu": name,
        "cpu_flags": [flag for flag in CPU_FLAGS if flag in flags],
        "physical_cores": physical_cores(),
        "logical_cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": {library: metadata.version(library) for library in LIBRARIES},
        "provider": "cpu",
        "threads": arguments.threads,
    }


def _cpu_facts() -> dict[str, str]:
    """What Linux says of the CPU: `model name` and `flags` on x86, `Model` of the board and `Features` on ARM."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    pairs = [line.partition(":") for line in path.read_text(encoding="utf-8").splitlines()]
    return {name.strip(): value.strip() for name, _, value in pairs}


def measure(bundle: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """The content of latency.json; its row is as one of report.json, with one round of samples."""
    samples = time_calls(bundle, arguments)
    memory = peak_rss_mb()
    row = {
        "artifact": bundle["artifact"],
        "provider": "cpu",
        "threads": arguments.threads,
        "batch": arguments.batch,
        "sequence_length": arguments.sequence_length,
        "samples": len(samples),
        **summarise(samples, arguments.batch),
        "peak_rss_mb": memory,
        "size_mb": size_mb(),
        "cold_start_ms": cold_start_ms(bundle, arguments.threads),
        "raw_ms": [[round(sample, 4) for sample in samples]],
    }
    return {
        "schema": SCHEMA,
        "bundle": bundle["export"],
        "artifact": bundle["artifact"],
        "latency": [row],
        "environment": environment(arguments),
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
    longest = bundle["longest_input"]
    parser = _Parser(
        description="Measure the model in this folder; writes latency.json.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--batch", type=_whole(1), default=1, help="sequences a call")
    parser.add_argument(
        "--sequence-length", type=_whole(2, longest), default=min(128, longest), help="tokens a sequence"
    )
    parser.add_argument(
        "--threads", type=_whole(1, os.cpu_count() or 1), default=physical_cores(), help="threads of a call"
    )
    parser.add_argument("--samples", type=_whole(10), default=100, help="timed calls")
    parser.add_argument("--warmup", type=_whole(0), default=5, help="untimed calls before them")
    parser.add_argument("--output", type=Path, default=Path("latency.json"), help="file to write")
    arguments = parser.parse_args()
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


def _read_bundle() -> dict[str, Any]:
    try:
        bundle: dict[str, Any] = json.loads((FOLDER / "bundle.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{FOLDER / 'bundle.json'} is missing or damaged; copy the bundle again") from error
    return bundle


def main() -> int:
    """Run with the shell's arguments; returns 0, or 2 for a mistake in what was asked for."""
    try:
        bundle = _read_bundle()
        arguments = _arguments(bundle)
        content = measure(bundle, arguments)
        _write(content, arguments.output)
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    row = content["latency"][0]
    print(
        f"{row['artifact']}, batch {row['batch']}, {row['sequence_length']} tokens, {row['threads']} threads: "
        f"median {row['p50_ms']:.2f} ms, p95 {row['p95_ms']:.2f} ms, first answer after {row['cold_start_ms']:.0f} ms, "
        f"peak memory {row['peak_rss_mb']:.0f} MB"
    )
    print(f"wrote {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
