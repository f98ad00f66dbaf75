"""Latency, memory and size of an export folder's artifacts, against a baseline's and others', in one run."""

from itertools import product
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from .. import digests, distributed, interfaces, models, targets
from ..configs import BenchmarkConfig
from ..errors import UserError
from ..evaluation import environment, latency, session
from ..evaluation.latency import Setting
from ..exporting.layouts import GRAPHS
from ..interfaces import Interface
from ..loading import CONFIG
from ..progress import step, tell
from ..store import folders, lineage, lock, watch
from ..store.manifest import ExportManifest
from ..targets import Target
from . import common, cost_gate
from .export import artifacts

RESULT = "benchmark.json"


@distributed.in_main
@lock.exclusive("folder")
@watch.steady("folder")
def benchmark(folder: Path, config: BenchmarkConfig, overwrite: bool = False) -> Path:
    """Measure every artifact in `folder`, the baseline and what it is compared with; write `benchmark.json` into it.

    Speed-ups are over the baseline's first artifact (fp32 if it has one), or the folder's own without a baseline.
    `latency` holds the rows of the first setting, `grid` those of the others. What another machine or other versions
    measured is measured anew. Where this machine is not what the folder's target is, both stay empty and
    `not_measured` says why: a figure from here would be no figure of it.
    """
    session.runtime()
    manifest = ExportManifest.read(folder)
    target = Target.parse(manifest.metrics.target)
    ours = name_artifacts(folder, manifest)
    named, identities = _contestants(folder, ours, config)
    provider, threads = config.provider or target.provider, config.threads or [_threads(target)]
    resolved = config.resolved() | {"baseline": None, "compare": None, "provider": provider, "threads": threads}
    key = {
        "config": resolved | identities,
        "folder": lineage.fingerprint(folder),
        **environment.of_latency(provider),
    }
    if not overwrite and common.measured_here(folder / RESULT, key):
        return folder

    model = models.config_of(folder)
    interface = interfaces.of(manifest.architecture)
    require_lengths(model, config)
    settings = _settings(config, provider, threads)
    reference = next(iter(named))
    with step("measure sizes"):
        files = {name: {"baseline": name not in ours, **latency.size_mb(path)} for name, path in named.items()}
    obstacle = targets.obstacle(target)
    rows = []
    if obstacle:
        tell(f"not measured here: the target is {manifest.config['target']}; {obstacle}")
    else:
        session.require_provider(provider)
        vocabulary = min(model.vocab_size, *(_vocabulary(path, model.vocab_size) for path in named.values()))
        for setting in settings:
            rows.append(_measure(interface, named, files, reference, vocabulary, setting))
    order = cost_gate.order_of(folder, manifest)
    sizes = {name: file["size_mb"] for name, file in files.items()}
    cost = cost_gate.require(order, [row for setting in rows for row in setting], sizes) if order else None
    result = {
        "key": key,
        "reference": reference,
        "turns": "blocks that alternate, one session alive at a time",
        "not_measured": obstacle,
        "latency": rows[0] if rows else [],
        "grid": [row for others in rows[1:] for row in others],
        "size": [{"artifact": name, **file} for name, file in files.items()],
        **({"cost": cost} if cost else {}),
        "environment": environment.describe(provider) | {"provider": provider, "threads": threads[0]},
    }
    watch.require_steady()
    folders.write_json(folder / RESULT, result)
    return folder


def require_lengths(model: PretrainedConfig, config: BenchmarkConfig, section: str = "") -> None:
    """UserError, naming the option in its `section` of a recipe, for more tokens than the model reads."""
    for length in config.sequence_length:
        interfaces.of(model.model_type).require_length(model, length, config.new_tokens, section)


def name_artifacts(folder: Path, manifest: ExportManifest) -> dict[str, Path]:
    """The ONNX files of a folder as dense_fp32, pruned_int8 and so on."""
    kind = manifest.metrics.kind
    return {f"{kind}_{precision}": path for precision, path in artifacts(folder, manifest).items()}


def _contestants(
    folder: Path, ours: dict[str, Path], config: BenchmarkConfig
) -> tuple[dict[str, Path], dict[str, Any]]:
    """Every file to measure by its name, the baseline's first, and the fingerprints of the other folders.

    UserError if one is missing, or compared with itself.
    """
    named = dict(ours)
    identities: dict[str, Any] = {}
    if config.baseline is not None:
        base = Path(config.baseline)
        _require_another(base, folder)
        watch.also(base)
        theirs = name_artifacts(base, ExportManifest.read(base))
        identities["baseline"] = lineage.fingerprint(base)
        if named.keys() & theirs.keys():
            theirs = {f"baseline_{name}": path for name, path in theirs.items()}
        named = theirs | named
    for prefix, (other, files) in others(config).items():
        _require_another(other, folder)
        named |= {f"{prefix}/{path.relative_to(other).as_posix()}": path for path in files}
        identities[f"compare {prefix}"] = digests.digest(files, other)
    return named, identities


def others(config: BenchmarkConfig) -> dict[str, tuple[Path, list[Path]]]:
    """Each folder to compare with and its ONNX files, by the last parts of its path, as many as tell it from the
    others. UserError for a folder without one.
    """
    folders = list(dict.fromkeys(Path(other).resolve() for other in config.compare or []))
    found = [sorted([*folder.glob("*.onnx"), *(folder / GRAPHS).glob("*.onnx")]) for folder in folders]
    for folder, files in zip(folders, found, strict=True):
        if not files:
            raise UserError(f"{folder} has no ONNX model to compare with")
    names: list[str] = []
    count = 0
    while len({*names}) < len(folders):
        count += 1
        names = ["/".join(folder.parts[-count:]) for folder in folders]
    return dict(zip(names, zip(folders, found, strict=True), strict=True))


def _require_another(other: Path, folder: Path) -> None:
    if other.resolve() == folder.resolve():
        raise UserError(f"{folder} would be compared with itself; give another folder")


def _threads(target: Target) -> int:
    """Intra-op threads where the user gives none."""
    return target.threads or environment.physical_cores()


def _settings(config: BenchmarkConfig, provider: str, threads: list[int]) -> list[Setting]:
    """How calls are made: one setting for each batch, length and number of threads."""
    return [
        Setting(
            batch=batch,
            sequence_length=length,
            threads=count,
            provider=provider,
            samples=config.samples,
            rounds=config.rounds,
            warmup=config.warmup,
            seed=config.seed,
            new_tokens=config.new_tokens,
        )
        for batch, length, count in product(config.batch, config.sequence_length, threads)
    ]


def _vocabulary(graph: Path, otherwise: int) -> int:
    """Tokens that the model in an ONNX file knows, as far as its folder says so."""
    folder = models.home_of(graph)
    return models.config_of(folder).vocab_size if (folder / CONFIG).is_file() else otherwise


def _measure(
    interface: Interface,
    named: dict[str, Path],
    files: dict[str, dict[str, Any]],
    reference: str,
    vocabulary: int,
    setting: Setting,
) -> list[dict[str, Any]]:
    where = f"batch {setting.batch}, {setting.sequence_length} tokens, {setting.threads} threads"
    with step(f"time {', '.join(named)}: {where}"):
        samples = latency.measure(named, interface.PHASES, interface.batch(vocabulary, setting), setting)
    rows = []
    with step("measure cold start and memory"):
        for name, path in named.items():
            both = (samples[name], samples[reference])
            row = latency.row(name, path, interface.PHASES, *both, vocabulary, setting)
            rows.append(row | interface.beside(path, setting, row) | files[name])
    return rows
