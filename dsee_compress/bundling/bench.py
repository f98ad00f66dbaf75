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


def _is_number(value: Any, least: int = 0) -> bool:
    return type(value) is int and least <= value < 2**31


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


FIELDS: dict[str, Callable[[Any], bool]] = {
    "schema": lambda value: value == SCHEMA,
    "artifact": lambda value: isinstance(value, str),
    "export": lambda value: isinstance(value, str),
    "answer": lambda value: isinstance(value, str),
    "text": _are_texts,
    "inputs": _are_texts,
    "padding": lambda value: isinstance(value, dict) and _is_number(value.get("id")),
    "vocabulary_size": lambda value: _is_number(value, 2),
    "longest_input": lambda value: _is_number(value, 3),
}
"""What bundle.json holds, as far as it is needed here, and whether a value can be that."""


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


def load_session(bundle: dict[str, Any], arguments: argparse.Namespace) -> Any:
    """The model alone; UsageError if it cannot be loaded, or is not what bundle.json describes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = arguments.threads
    try:
        live = onnxruntime.InferenceSession(str(FOLDER / "model.onnx"), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base class
        raise UsageError(f"the model in {FOLDER} cannot be loaded ({first_line(error)}); copy it again") from error
    outputs = [entry.name for entry in live.get_outputs()]
    if {entry.name for entry in live.get_inputs()} != {*bundle["inputs"]} or "logits" not in outputs:
        raise UsageError(f"model.onnx in {FOLDER} is not the model that bundle.json describes; copy the bundle again")
    return live


def run(session: Any, outputs: list[str] | None, given: dict[str, Any]) -> list[Any]:
    """One call of the model; UsageError if it fails."""
    try:
        found: list[Any] = session.run(outputs, given)
    except Exception as error:  # its exceptions share no base class
        raise UsageError(
            f"the model in {FOLDER} cannot be run ({first_line(error)}); copy the bundle again, or give a smaller "
            "--batch if the memory is too small"
        ) from error
    return found


def time_calls(call: Callable[[], object], arguments: argparse.Namespace) -> list[float]:
    """Milliseconds of each call, in their order, after the untimed ones."""
    for _ in range(arguments.warmup):
        call()
    samples = []
    for _ in range(arguments.samples):
        started = time.perf_counter_ns()
        call()
        samples.append((time.perf_counter_ns() - started) / 1e6)
    return samples


def time_answers(bundle: dict[str, Any], arguments: argparse.Namespace) -> list[float]:
    """Milliseconds of each call on one batch, with one session that ends with them."""
    session = load_session(bundle, arguments)
    inputs = random_batch(bundle, arguments.batch, arguments.sequence_length)
    return time_calls(lambda: run(session, ["logits"], inputs), arguments)


class Writing:
    """A session that writes on from a prompt of random tokens, the same in every run and every row, unpadded."""

    def __init__(self, bundle: dict[str, Any], arguments: argparse.Namespace) -> None:
        self._session = load_session(bundle, arguments)
        self._longest = arguments.sequence_length + arguments.new_tokens
        generator = np.random.default_rng(0)
        generator.integers(0, arguments.sequence_length, size=1)  # where `benchmark` draws what stands unpadded
        prompt = generator.integers(0, bundle["vocabulary_size"], size=(1, arguments.sequence_length))
        self._prompt = np.repeat(prompt, arguments.batch, axis=0)
        self._nothing = self._remembered(arguments.batch, 0)
        self._read: dict[str, Any] = {}
        self._memory: dict[str, Any] = {}

    def prompt(self) -> None:
        """Read the prompt from its beginning: its answer is the first new token."""
        self._read = self._memory = self._call(self._prompt, self._nothing)

    def step(self) -> None:
        """Add one token to each row; behind the prompt again after as many as are asked for."""
        if _tokens(self._memory) == self._longest:
            self._memory = self._read
        self._memory = self._call(self._prompt[:, -1:], self._memory)

    def bytes_per_token(self) -> int:
        """What is remembered of a token, of one row."""
        return sum(array.nbytes for array in self._remembered(1, 1).values())

    def _call(self, tokens: Any, memory: dict[str, Any]) -> dict[str, Any]:
        past, (rows, count) = _tokens(memory), tokens.shape
        positions = np.arange(past, past + count, dtype=np.int64)
        given = {
            "input_ids": tokens,
            "attention_mask": np.ones((rows, past + count), np.int64),
            "position_ids": np.repeat(positions[None], rows, axis=0),
            "logits_to_keep": np.array([1], np.int64),
        }
        _, *present = run(self._session, None, {**given, **memory})
        return dict(zip(memory, present))

    def _remembered(self, rows: int, tokens: int) -> dict[str, Any]:
        kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        entries = [entry for entry in self._session.get_inputs() if entry.name.startswith("past_key_values.")]
        return {
            entry.name: np.zeros((rows, entry.shape[1], tokens, entry.shape[3]), kinds[entry.type]) for entry in entries
        }


def _tokens(memory: dict[str, Any]) -> int:
    return int(next(iter(memory.values())).shape[2])


def time_writing(bundle: dict[str, Any], arguments: argparse.Namespace) -> tuple[list[float], dict[str, Any]]:
    """Milliseconds of each prompt, and the figures of the steps after one; each with a session of its own."""
    prompts = time_calls(Writing(bundle, arguments).prompt, arguments)
    writing = Writing(bundle, arguments)
    writing.prompt()
    steps = time_calls(writing.step, arguments)
    decode = {"samples": len(steps), **summarise(steps, arguments.batch), "raw_ms": _rounded(steps)}
    return prompts, {
        "new_tokens": arguments.new_tokens,
        "time_to_first_token_ms": summarise(prompts, arguments.batch)["p50_ms"],
        "decode_ms_per_token": decode["p50_ms"],
        "tokens_per_second": decode["throughput"],
        "memory_bytes_per_token": writing.bytes_per_token(),
        "decode": decode,
    }


def _rounded(samples: list[float]) -> list[list[float]]:
    """One round of samples."""
    return [[round(sample, 4) for sample in samples]]


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
        "libraries": {library: _version(library) for library in LIBRARIES},
        "provider": "cpu",
        "threads": arguments.threads,
    }


def _version(library: str) -> str:
    """Of what is imported here its own word: it may be installed under another name, as onnxruntime-gpu is."""
    try:
        return str(sys.modules[library].__version__) if library in sys.modules else metadata.version(library)
    except metadata.PackageNotFoundError:
        return "unknown"


def _cpu_facts() -> dict[str, str]:
    """What Linux says of the CPU: `model name` and `flags` on x86, `Model` of the board and `Features` on ARM."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    pairs = [line.partition(":") for line in path.read_text(encoding="utf-8").splitlines()]
    return {name.strip(): value.strip() for name, _, value in pairs}


def writes(bundle: dict[str, Any]) -> bool:
    """Whether the model writes texts, token by token, where others answer in one call."""
    return bool(bundle["answer"] == "text")


def measure(bundle: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """The content of latency.json; its row is as one of report.json, with one round of samples."""
    writing: dict[str, Any] = {}
    if writes(bundle):
        samples, writing = time_writing(bundle, arguments)
    else:
        samples = time_answers(bundle, arguments)
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
        "raw_ms": _rounded(samples),
        **writing,
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
        "--threads", type=_whole(1, os.cpu_count() or 1), default=physical_cores(), help="threads of a call"
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


def _read_bundle() -> dict[str, Any]:
    path = FOLDER / "bundle.json"
    try:
        bundle: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is missing or damaged ({first_line(error)}); copy the bundle again") from error
    for name, fits in FIELDS.items():
        if not isinstance(bundle, dict) or name not in bundle or not fits(bundle[name]):
            raise UsageError(f"{path} has no {name!r} that this bench.py could read; copy the bundle again")
    return bundle


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its name if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def shown(text: object) -> str:
    """`text` with what is no visible character written as an escape: a name is no command to the terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in str(text)
    )


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
        bundle = _read_bundle()
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
