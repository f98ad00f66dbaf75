"""pruned (or adapter) folder → ONNX folder."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from .. import architectures, checkpoint, distributed, tasks
from ..adapters import model as adapters
from ..checkpoint import Manifest
from ..configs import ExportConfig
from ..errors import UserError
from ..evaluation import environment, parity, session
from ..evaluation.inputs import random_batches
from ..exporting import first_token, fusion, graph, quantization
from ..progress import step
from . import common

ARTIFACTS = {"fp32": "model.onnx", "int8": "model_int8.onnx"}
"""File of each precision; Optimum looks for the first by its name."""
UNSEEN_SHAPES = [(1, 5), (3, 31), (5, 64), (4, 100), (2, 128)]
"""Batch and sequence length on which the export gate compares; none is what the exporter traced."""


@distributed.in_main
def export(source: Path, config: ExportConfig, output: Path, overwrite: bool = False) -> Path:
    """Write the model in `source` as fused ONNX graphs with what Optimum needs to run them."""
    parent = checkpoint.read(source, "finetune", "prune")
    resolved = config.resolved()
    link = checkpoint.link_parent(source, output)
    if checkpoint.up_to_date(output, "export", resolved, {"parent": link.fingerprint}, overwrite):
        return output
    session.runtime()

    metrics: dict[str, Any] = {"kind": "dense" if parent.stage == "finetune" else "pruned"}
    with step("load and merge"):
        tokenizer = common.tokenizer_of(source)
        if parent.stage == "finetune":
            model = adapters.load(source)
            rows = tasks.encode(parent.task, "validation", tokenizer)
            batches = common.gate_batches(rows, tasks.collator(tokenizer))
            before = common.logits_of(model, batches)
            adapters.merge(model)
            metrics["merge_max_abs"] = common.pass_gate(parity.MERGE, before, model, batches).max_abs
        else:
            model = checkpoint.load(source)
    family, layers = architectures.of(model), len(architectures.layers(model))
    with checkpoint.writing(output, overwrite) as folder:
        fp32 = folder / ARTIFACTS["fp32"]
        unfused = "" if family.fuses_attention else f" (all but the attention of {family.model_type})"
        with step(f"export and fuse{unfused}"):
            plain = folder / "plain.onnx"
            graph.to_onnx(model, plain, config.opset)
            fusion.fuse(plain, fp32, family)
            for leftover in folder.glob("plain.onnx*"):
                leftover.unlink()
            metrics["narrowed_nodes"] = first_token.narrow(fp32)
            metrics["fp32"] = vars(fusion.require_fused(fp32, family, layers))
        with step("compare with PyTorch"):
            proof = export_gate(model, fp32)
            metrics |= {"export_max_abs": proof.max_abs, "label_agreement": proof.label_agreement}
        if "int8" in config.precision:
            with step("quantise to int8"):
                reduce_range = not environment.has_vnni()
                int8 = folder / ARTIFACTS["int8"]
                quantization.dynamic_int8(fp32, int8, reduce_range=reduce_range)
                metrics["int8"] = vars(fusion.require_fused(int8, family, layers)) | {"reduce_range": reduce_range}
        if "fp32" not in config.precision:
            fp32.unlink()
        model.config.save_pretrained(folder)
        common.save_tokenizer(tokenizer, folder)
        manifest = checkpoint.child_of(
            parent,
            link,
            stage="export",
            config=resolved,
            structure=parent.structure,
            inputs={},
            seed=parent.seed,
            metrics=metrics,
        )
        checkpoint.write_manifest(folder, manifest)
    return output


def artifacts(folder: Path, manifest: Manifest) -> dict[str, Path]:
    """The ONNX files of an export folder, by precision; UserError if one that it should hold is gone."""
    paths = {name: folder / file for name, file in ARTIFACTS.items() if name in manifest.config["precision"]}
    for path in paths.values():
        if not path.is_file():
            raise UserError(f"{path} is missing; export again with --overwrite")
    return paths


def export_gate(model: PreTrainedModel, path: Path) -> parity.Parity:
    """Compare PyTorch with ONNX Runtime on shapes that the exporter did not see, with padding."""
    longest = architectures.longest_input(model.config)
    shapes = [(batch, min(length, longest)) for batch, length in UNSEEN_SHAPES]
    with session.Session(path) as live:
        batches = random_batches(shapes, model.config.vocab_size, live.inputs, pad_token=model.config.pad_token_id or 0)
        return parity.passed(parity.EXPORT, common.logits_of(model, batches), map(live.forward, batches))
