"""Latency, memory and size of an export folder's artifacts, against a baseline's, in one run."""

from pathlib import Path
from typing import Any

from .. import architectures, checkpoint, distributed
from ..checkpoint import Manifest
from ..configs import BenchmarkConfig
from ..errors import UserError
from ..evaluation import environment, latency, session
from ..progress import step
from .export import artifacts

RESULT = "benchmark.json"


@distributed.in_main
def benchmark(folder: Path, config: BenchmarkConfig, overwrite: bool = False) -> Path:
    """Measure every artifact in `folder`, and in the baseline; write `benchmark.json` into `folder`.

    Speed-ups are over the baseline's first artifact (fp32 if it has one), or the folder's own without a baseline.
    """
    session.runtime()
    ours = named = name_artifacts(folder, checkpoint.read(folder, "export"))
    baseline = None
    resolved = config.resolved()
    if config.baseline is not None:
        base = Path(config.baseline)
        resolved["baseline"] = str(base.resolve())
        if base.resolve() == folder.resolve():
            raise UserError(f"{folder} is its own baseline; give another folder")
        theirs = name_artifacts(base, checkpoint.read(base, "export"))
        baseline = checkpoint.fingerprint(base)
        if named.keys() & theirs.keys():
            theirs = {f"baseline_{name}": path for name, path in theirs.items()}
        named = theirs | named
    key = {"config": resolved, "folder": checkpoint.fingerprint(folder), "baseline": baseline}
    if not overwrite and checkpoint.has_result(folder / RESULT, key):
        return folder

    model = checkpoint.model_config(folder)
    architectures.require_length(model, "sequence_length", config.sequence_length)
    setting = latency.Setting(
        batch=config.batch,
        sequence_length=config.sequence_length,
        threads=config.threads or environment.physical_cores(),
        provider=config.provider,
        samples=config.samples,
        rounds=config.rounds,
        warmup=config.warmup,
        seed=config.seed,
    )
    with step(f"time {', '.join(named)}"):
        samples = latency.measure(named, model.vocab_size, setting)
    reference = next(iter(named))
    with step("measure memory and size"):
        rows: list[dict[str, Any]] = [
            latency.row(name, path, samples[name], samples[reference], model.vocab_size, setting)
            | {"baseline": name not in ours}
            for name, path in named.items()
        ]
    result = {
        "key": key,
        "reference": reference,
        "turns": "blocks that alternate, one session alive at a time",
        "latency": rows,
        "environment": environment.describe() | {"provider": config.provider, "threads": setting.threads},
    }
    checkpoint.write_json(folder / RESULT, result)
    return folder


def name_artifacts(folder: Path, manifest: Manifest) -> dict[str, Path]:
    """The ONNX files of a folder as dense_fp32, pruned_int8 and so on."""
    kind = manifest.metrics["kind"]
    return {f"{kind}_{precision}": path for precision, path in artifacts(folder, manifest).items()}
