"""ONNX folder → folder and zip file that run on a device without torch, transformers or this package."""

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from .. import architectures, digests, distributed, models, naming, tasks
from ..configs import BundleConfig
from ..errors import GateError, UserError
from ..evaluation import inputs, onnx_file, session
from ..progress import step
from ..store import folders, lineage, lock, outputs, watch
from ..store.manifest import BundleManifest, ExportManifest
from ..store.stage_metrics import BundleMetrics
from ..targets import Target
from ..tasks import Spec, generation
from . import common
from .export import artifacts

if TYPE_CHECKING:
    from onnx import GraphProto

    from ..runtime import answers

SCHEMA = 1
MODEL = "model.onnx"
REQUIREMENTS = "requirements.txt"
_PACKAGE = Path(__file__).parents[1]
COPIED = [
    *(_PACKAGE / "bundling" / name for name in ("predict.py", "bench.py", REQUIREMENTS, "README.md")),
    *(_PACKAGE / "runtime" / f"{name}.py" for name in ("answers", "calls", "machine", "opened", "tagging", "usage")),
]
"""What every bundle holds as it stands there, but for a newer onnxruntime where the model needs it."""
OLDEST_RUNTIME = "1.22"
"""Up to 1.20, onnxruntime runs the same model without complaint and answers texts that were padded wrongly."""
RUNTIME_OF_OPSET = {23: "1.23", 24: "1.24"}
RUNTIME_OF_OPERATOR = {"GatherBlockQuantized": "1.23"}
"""The first onnxruntime that knows it with 8 bits, as int8 and int4 decoders have it."""
RUNTIME_OF_NARROW = "1.25"
NARROW = range(17, 32)
"""Columns of an int8 product that an older onnxruntime computes wrongly on x86 with AMX, from 32 rows on."""
X86 = {"x86_64", "AMD64"}
PROBES = (
    "",
    "a",
    "  spaces, \t a tab and \r\n lines  ",
    "Two words, UPPER and lower; [CLS] [SEP] [MASK] <s> </s>",
    "an emoji 🙂, a family 👩‍👩‍👧, a NUL \0 and an ä made of a\u0308",
    "中文 日本語 한국어 العربية हिन्दी ไทย Ελληνικά кириллица",
    "long " * 1200,
    "the same length " * 400,
)
"""Texts on which tokenizers are apt to differ."""


@distributed.in_main
@lock.exclusive("output")
@watch.steady("source")
def bundle(source: Path, config: BundleConfig, output: Path, overwrite: bool = False) -> Path:
    """Write one artifact of `source` with all that answering needs to `output`, and the same to `output`.zip.

    Raises GateError if the programs in it would feed the model with other tokens than transformers does.
    """
    parent = ExportManifest.read(source)
    _require_apart(source, output)
    precision, model = _choose(source, parent, config.precision)
    resolved = config.resolved() | {"precision": precision}
    link = lineage.link(source, output)
    programs = digests.digest(COPIED)
    place = output.resolve()
    archive = place.with_name(f"{place.name}.zip")
    partial = archive.with_name(f".{archive.name}.partial")
    identity = {"parent": link.fingerprint, "programs": programs}
    try:
        if outputs.up_to_date(output, "bundle", resolved, identity, overwrite):
            if not archive.exists():
                _pack(output, place.name, partial)
                partial.replace(archive)
            return output
        if archive.exists() and not overwrite:
            raise UserError(f"{archive} already exists; choose another output, or use --overwrite to replace it")
        with step(f"bundle {model.name}"), folders.writing(output, overwrite) as folder:
            described = _describe(source, parent, precision, model, config)
            _fill(folder, source, model, described)
            _require_same_tokens(folder, common.tokenizer_of(source), parent)
            manifest = BundleManifest.child_of(
                common.without_paths(parent),
                link.model_copy(update={"path": f"../{source.resolve().name}"}),
                config=resolved,
                structure=parent.structure,
                inputs={"programs": programs},
                seed=parent.seed,
                metrics=BundleMetrics(artifact=described["artifact"]),
            )
            manifest.write(folder)
            watch.require_steady()
            _pack(folder, place.name, partial)
            # A kill from here on leaves no archive beside a folder of another content; the next run packs it.
            archive.unlink(missing_ok=True)
        partial.replace(archive)
    finally:
        partial.unlink(missing_ok=True)
    return output


def _require_apart(source: Path, output: Path) -> None:
    """UserError if one of the two folders would hold the other."""
    inner, outer = output.resolve(), source.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise UserError(f"the output {output} would lie in {source}, or hold it; choose an output beside it")


def _choose(source: Path, manifest: ExportManifest, asked: str | None) -> tuple[str, Path]:
    """The precision to bundle and its ONNX file; UserError if the export does not have what was asked for."""
    there = artifacts(source, manifest)
    precision = asked or ("int8" if "int8" in there else next(iter(there)))
    if precision not in there:
        raise UserError(
            f"{source} has no {precision} artifact, only {', '.join(there)}; choose that, or export {precision}, too"
        )
    return precision, there[precision]


def _describe(
    source: Path, manifest: ExportManifest, precision: str, model: Path, options: BundleConfig
) -> dict[str, Any]:
    """The content of bundle.json; UserError for a model that does not load or a tokenizer that is of Python alone."""
    tokenizer = common.tokenizer_of(source)
    if not tokenizer.is_fast:
        raise UserError(f"{source} has no tokenizer.json, and the tokenizers library needs one; use a fast tokenizer")
    config = models.config_of(source)
    with session.Session(model) as live:
        names = live.inputs
    return {
        "schema": SCHEMA,
        "artifact": f"{manifest.metrics.kind}_{precision}",
        "precision": precision,
        "task": manifest.task.name,
        **tasks.of(manifest.task).bundled(manifest.task, tokenizer, config, options.max_new_tokens),
        "text": manifest.task.text,
        "labels": manifest.task.labels,
        "max_length": manifest.task.max_length,
        "truncation_side": tokenizer.truncation_side,
        "padding": {
            "id": tokenizer.pad_token_id,
            "type_id": tokenizer.pad_token_type_id,
            "side": tokenizer.padding_side,
        },
        "inputs": names,
        "vocabulary_size": config.vocab_size,
        "longest_input": architectures.longest_input(config),
        "onnxruntime": _oldest_runtime(model, Target.parse(manifest.metrics.target)),
        "export": lineage.fingerprint(source),
        "made_from": {
            "base": naming.named(manifest.base),
            "architecture": manifest.architecture,
            "data": naming.named(manifest.task.data),
            "heads": manifest.structure.head_counts,
            "neurons": manifest.structure.neuron_counts,
            "versions": manifest.versions,
        },
    }


def _fill(folder: Path, source: Path, model: Path, described: dict[str, Any]) -> None:
    """Put all but the manifest into `folder`."""
    shutil.copyfile(model, folder / MODEL)
    for data in model.parent.glob(f"{model.name}*data"):
        shutil.copyfile(data, folder / data.name)  # the graph names it
    shutil.copyfile(source / "tokenizer.json", folder / "tokenizer.json")
    for path in COPIED:
        shutil.copyfile(path, folder / path.name)
    requirements = (folder / REQUIREMENTS).read_text(encoding="utf-8")
    needed = requirements.replace(f"onnxruntime>={OLDEST_RUNTIME}", f"onnxruntime>={described['onnxruntime']}")
    folders.write_text(folder / REQUIREMENTS, needed)
    folders.write_json(folder / "bundle.json", described)


def _oldest_runtime(model: Path, target: Target) -> str:
    """The oldest onnxruntime, as `major.minor`, that runs an ONNX file rightly on the target."""
    content = onnx_file.read(model, weights=False)
    opset = max(entry.version for entry in content.opset_import if entry.domain in ("", "ai.onnx"))
    operators = {node.op_type for node in content.graph.node}
    narrow = bool(X86 & {*target.machines}) and any(width in NARROW for width in _int8_widths(content.graph))
    return max(
        OLDEST_RUNTIME,
        RUNTIME_OF_OPSET.get(opset, OLDEST_RUNTIME),
        *(needed for operator, needed in RUNTIME_OF_OPERATOR.items() if operator in operators),
        *([RUNTIME_OF_NARROW] if narrow else []),
    )


def _int8_widths(graph: "GraphProto") -> Iterator[int]:
    """Columns of each int8 weight; of one that gives query, key and value, those of one head of one of them."""
    from onnx import TensorProto, helper

    shapes = {entry.name: entry.dims for entry in graph.initializer if entry.data_type == TensorProto.INT8}
    for node in graph.node:
        for shape in (shapes[name] for name in node.input if name in shapes and len(shapes[name]) == 2):
            heads = helper.get_node_attr_value(node, "num_heads") if node.op_type == "QAttention" else None
            yield shape[1] // (3 * heads) if heads else shape[1]


def _require_same_tokens(folder: Path, tokenizer: PreTrainedTokenizerBase, manifest: ExportManifest) -> None:
    """GateError unless predict.py feeds the model with what validation does, padding and all."""
    from ..runtime import answers

    task = manifest.task
    ids = np.random.default_rng(0).integers(0, len(tokenizer), (8, 2 * task.max_length))
    probes = [*PROBES, *tokenizer.batch_decode(ids)]
    model = answers.load(folder)
    if isinstance(model, answers.Writer):
        _require_same_prompts(model, probes, tokenizer, task)
        return
    rows: list[tuple[str, ...]]
    rows = [(text,) for text in probes] if len(task.text) == 1 else [*zip(probes, reversed(probes), strict=True)]
    collator = tasks.of(task).collator(tokenizer)
    for start in range(0, len(rows), 2):
        batch = rows[start : start + 2]
        given = tasks.of(task).fed(task, batch, tokenizer)
        (expected,) = inputs.padded_batches(given, collator, len(given))
        found = model.pad([window for row in batch for window in model.windows(model.encode(row))])
        if not all(np.array_equal(found[name], expected[name]) for name in model.bundle["inputs"]):
            raise GateError(f"gate 'bundle' failed: tokenizers and transformers differ on {json.dumps(batch)[:200]}")


def _require_same_prompts(
    model: "answers.Writer", probes: list[str], tokenizer: PreTrainedTokenizerBase, task: Spec
) -> None:
    for probe in filter(str.strip, probes):
        (expected,) = generation.tokens_of(task, [probe], tokenizer)
        if len(expected) < model.bundle["longest_input"] and model.encode((probe,)) != expected:
            raise GateError(f"gate 'bundle' failed: tokenizers and transformers differ on {json.dumps(probe)[:200]}")


def _pack(folder: Path, name: str, archive: Path) -> None:
    """Zip a bundle's files below `name/`; equal bundles give equal archives."""
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted([*lineage.contents(folder), folder / folders.MANIFEST]):
            entry = zipfile.ZipInfo(f"{name}/{path.name}")
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            entry.file_size = path.stat().st_size
            with path.open("rb") as stream, packed.open(entry, "w") as target:
                shutil.copyfileobj(stream, target, 1 << 20)
    folders.fsync(archive)
