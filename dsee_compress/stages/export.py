"""adapter or pruned folder → ONNX folder: fused or portable, in the precisions of a target."""

import gc
import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import architectures, digests, distributed, interfaces, models, naming, targets, tasks
from ..adapters import model as adapters
from ..configs import OPSETS, ExportConfig, LayoutName, Precision
from ..errors import UserError, first_line
from ..evaluation import inputs, parity, session
from ..evaluation.inputs import Batch
from ..exporting import files, ort_format, precision
from ..exporting.layouts import LAYOUTS
from ..progress import step
from ..store import folders, lineage, lock, outputs, watch
from ..store.manifest import ExportManifest, Manifest
from ..store.stage_metrics import ExportMetrics
from ..targets import Target
from ..tasks import Spec
from . import common, vocabulary

GENERATION_CONFIG = "generation_config.json"
CALIBRATION_EXAMPLES = 256
"""Training examples that static int8 looks at."""


@distributed.in_main
@lock.exclusive("output")
@watch.steady("source")
def export(source: Path, config: ExportConfig, output: Path, overwrite: bool = False) -> Path:
    """Write the model in `source` as ONNX graphs, in every precision, with what Optimum needs to run them."""
    parent = Manifest.read(source, "finetune", "prune")
    config, target = resolve(config)
    assert config.precision is not None and config.graph is not None and config.opset is not None
    resolved = config.resolved()
    read = vocabulary.fingerprints(config)
    if config.target not in targets.known():
        read["target"] = digests.sha256(Path(config.target))
    link = lineage.link(source, output)
    if outputs.up_to_date(output, "export", resolved, {"parent": link.fingerprint, **read}, overwrite):
        return output
    session.runtime()
    tokenizer = common.tokenizer_of(source)
    require_known(config, parent.architecture, parent.task, tokenizer)

    metrics: dict[str, Any] = {"kind": "dense" if parent.stage == "finetune" else "pruned"}
    model, tokenizer, generation_config = _loaded(source, parent, tokenizer, config, metrics)
    watch.require_steady()
    vocabulary.require_unchanged(config, read)
    with folders.writing(output, overwrite) as folder:
        model.config.save_pretrained(folder)
        about = partial(_about, parent, link.fingerprint, config, metrics)
        there = _write_graphs(model, tokenizer, parent, folder, config, target, about, metrics)
        if target.ort_format:
            with step("write .ort"):
                ort_format.write(next(iter(there.values())).parent)
        if entries := LAYOUTS[config.layout].entries(there):
            model.config.update(entries)
            model.config.save_pretrained(folder)
        if generation_config:
            folders.write_json(folder / GENERATION_CONFIG, generation_config)
        common.save_tokenizer(tokenizer, folder)
        manifest = ExportManifest.child_of(
            parent,
            link,
            config=resolved,
            structure=parent.structure,
            inputs=read,
            seed=parent.seed,
            metrics=ExportMetrics(**metrics, target=target.resolved()),
        )
        manifest.write(folder)
    return output


def _write_graphs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    parent: Manifest,
    folder: Path,
    config: ExportConfig,
    target: Target,
    about: Callable[[Precision], dict[str, str]],
    metrics: dict[str, Any],
) -> dict[Precision, Path]:
    """Write the graphs of the precisions, each past its gates, and return where; what was measured on the way goes
    into `metrics`.

    about: what a file says of itself. `model` is used up by the first gate.
    """
    assert config.precision is not None and config.graph is not None and config.opset is not None
    interface, style = interfaces.of(architectures.of(model).model_type), config.graph
    paths = {name: folder / graph for name, graph in LAYOUTS[config.layout].graphs.items()}

    def save(graph: Any, name: Precision) -> None:
        metrics[name] = vars(interface.require_fused(model, graph, paths[name].name))
        files.save(graph, paths[name], about(name))

    fp32 = paths["fp32"]
    with step(interface.describe(style)):
        graph, figures = interface.to_onnx(model, style, config.opset, target.provider, tokenizer.model_input_names)
        metrics |= figures
        save(graph, "fp32")
        del graph
        gc.collect()  # torch's exporter leaves circles behind that hold the weights
    with step("compare with PyTorch"):
        proof = interface.prove(model, fp32, tasks.of(parent.task))
        metrics |= {"export_max_abs": proof.max_abs, "label_agreement": proof.label_agreement}
    rules = rules_of(config, target)
    samples = cache(partial(_training_batches, parent, tokenizer))
    for name in config.precision:
        if name != "fp32":
            with step(f"write {name}"):
                lower = files.load(fp32)
                figures = precision.lower(lower, interface.PASSES[name], rules, samples)
                save(lower, name)
                metrics[name] |= figures
                del lower
    if "fp32" not in config.precision:
        files.remove(fp32)
    return {name: path for name, path in paths.items() if name in config.precision}


def resolve(config: ExportConfig) -> tuple[ExportConfig, Target]:
    """The config with everything that it leaves to the target, and the target.

    UserError if they do not fit, or what the config names is not there.
    """
    name = targets.host() if config.target == "auto" else config.target
    target = targets.load(name)
    style = config.graph or target.graph
    whole = {
        "target": name if name in targets.known() else str(Path(name).resolve()),
        "precision": config.precision or target.precision,
        "graph": style,
        "opset": config.opset or (18 if style == "fused" else OPSETS[style][0]),
        **vocabulary.located(config),
    }
    return ExportConfig.parse(config.model_dump() | whole), target


def require_known(config: ExportConfig, architecture: str, task: Spec, tokenizer: PreTrainedTokenizerBase) -> None:
    """UserError if the resolved `config` asks for what models of this family are not exported in, or for a layout whose
    readers run no such task or tokenizer."""
    require_precisions(config.precision or [], architecture)
    layout, asked = LAYOUTS[config.layout], (tasks.of(task).head, len(task.text))
    if not layout.fits(*asked):
        fitting = [name for name, other in LAYOUTS.items() if other.fits(*asked)]
        raise UserError(
            f"layout {config.layout} is not there for {task.name} of {' and '.join(map(repr, task.text))}; "
            f"choose {' or '.join(fitting)}"
        )
    if layout.needs_fast_tokenizer and not tokenizer.is_fast:
        raise UserError(
            f"{config.layout} reads tokenizer.json, and the tokenizer of this model has none; use a fast tokenizer, or "
            "another layout"
        )


def require_precisions(precisions: list[Precision], architecture: str) -> None:
    """UserError if models of this family are not exported in one of them."""
    known = ["fp32", *interfaces.of(architecture).PASSES]
    for name in precisions:
        if name not in known:
            raise UserError(
                f"precision {name} is not there for {architecture}, only {', '.join(known)}; choose of those"
            )


def rules_of(config: ExportConfig, target: Target) -> precision.Rules:
    """What the target's arithmetic asks for."""
    return precision.Rules(target.reduce_range, target.signed_activations, config.block_size)


def _loaded(
    source: Path,
    parent: Manifest,
    tokenizer: PreTrainedTokenizerBase,
    config: ExportConfig,
    metrics: dict[str, Any],
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, dict[str, Any]]:
    """The model to export, its tokenizer and how it generates; what was measured on the way goes into `metrics`."""
    with step("load and merge"):
        model = _merged(source, parent, tokenizer, metrics)
        generation_config = _generation_config(model, source)
    if config.trim_vocabulary is not None:
        with step("trim the vocabulary"):
            tokenizer, generation_config, metrics["vocabulary"] = vocabulary.trim(
                model, tokenizer, generation_config, parent.task, config
            )
    return model, tokenizer, generation_config


def _merged(
    source: Path, parent: Manifest, tokenizer: PreTrainedTokenizerBase, metrics: dict[str, Any]
) -> PreTrainedModel:
    """The plain model of a stage folder; of an adapter, what the merge gate measured goes into `metrics`."""
    if parent.stage != "finetune":
        return models.load(source)
    model = adapters.load(source)
    rows = tasks.encode(parent.task, "validation", tokenizer)
    common.tell_read(validation=rows)
    gate = common.GateRows(parent.task, rows, tokenizer)
    before = gate.logits(model)
    adapters.merge(model)
    metrics["merge_max_abs"] = gate.require_same(parity.MERGE, before, model).max_abs
    return model


def _generation_config(model: PreTrainedModel, source: Path) -> dict[str, Any]:
    """How a model generates, as `source` says or as its kind does; nothing, if it does not."""
    file = source / GENERATION_CONFIG
    if not file.is_file():
        return json.loads(model.generation_config.to_json_string()) if model.can_generate() else {}
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{file} is damaged ({first_line(error)}); write the folder again") from error


def _training_batches(parent: Manifest, tokenizer: PreTrainedTokenizerBase) -> list[Batch]:
    rows = tasks.encode(parent.task, "train", tokenizer)
    common.tell_read(train=rows)
    chosen = rows.shuffle(seed=parent.seed).select(range(min(CALIBRATION_EXAMPLES, len(rows))))
    return inputs.padded_batches(chosen, tasks.of(parent.task).collator(tokenizer), 16)


def _about(
    parent: Manifest, fingerprint: str, config: ExportConfig, metrics: dict[str, Any], name: Precision
) -> dict[str, str]:
    """What an ONNX file says of itself."""
    trimmed = "{after} of {before} tokens".format_map(metrics["vocabulary"]) if "vocabulary" in metrics else ""
    return {
        "producer": "dsee-compress",
        "made_from": f"{parent.stage} {fingerprint}",
        "base": naming.named(parent.base),
        "task": parent.task.name,
        "labels": json.dumps(parent.task.labels),
        "max_length": str(parent.task.max_length),
        "precision": name,
        "target": naming.named(config.target),
        "graph": f"{config.graph}, opset {config.opset}",
        **({"vocabulary": trimmed} if trimmed else {}),
    }


def layout_of(manifest: ExportManifest) -> LayoutName:
    """The layout of an export folder; of before there were others, Optimum's."""
    name: LayoutName = manifest.config.get("layout", "optimum")
    return name


def artifacts(folder: Path, manifest: ExportManifest) -> dict[Precision, Path]:
    """The ONNX files of an export folder, by precision; UserError if one that it should hold is gone."""
    graphs = LAYOUTS[layout_of(manifest)].graphs
    paths = {name: folder / graph for name, graph in graphs.items() if name in manifest.config["precision"]}
    for path in paths.values():
        if not path.is_file():
            raise UserError(f"{path} is missing; export again with --overwrite")
    return paths
