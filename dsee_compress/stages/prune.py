"""adapter folder → smaller model (DSEE steps II and III, merge, removal)."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from .. import architectures, checkpoint, tasks
from ..adapters import model as adapters
from ..checkpoint import Structure
from ..configs import PruneConfig
from ..evaluation import parity
from ..progress import step
from ..pruning import allocation, importance, masking, surgery
from ..tasks import data
from ..training import trainer
from . import common


def prune(source: Path, config: PruneConfig, output: Path, overwrite: bool = False) -> Path:
    """Choose S1 from the adapter in `source`, train again under it, merge, remove; write a plain model."""
    parent = checkpoint.read(source, "finetune")
    resolved = config.resolved()
    link = checkpoint.link_parent(source, output)
    inputs = {"data": data.fingerprint(data.locate(parent.task.data), "train", "validation")}
    identity = {"parent": link.fingerprint, **inputs}
    if checkpoint.up_to_date(output, "prune", resolved, identity, overwrite):
        return output
    trainer.resolve_precision(config.precision, trainer.resolve_device(config.device))

    with step("read the adapter and the data"):
        model = adapters.load(source)
        tokenizer = common.tokenizer_of(source)
        rows = tasks.encode(parent.task, "train", tokenizer)
        validation = tasks.encode(parent.task, "validation", tokenizer)
        collator = tasks.collator(tokenizer)
    with step("choose S1"):
        structure = apply_mask(model, config)

    with checkpoint.writing(output, overwrite) as folder:
        training = {}
        if config.retune_epochs:
            state = checkpoint.resumable(output, {"config": resolved, **identity})
            training = trainer.train(model, rows, collator, config, config.retune_epochs, state, "retune")
        with step("merge, remove and save"):
            batches = common.gate_batches(validation, collator)
            masked = common.logits_of(model, batches)
            adapters.merge(model)
            merged = common.logits_of(model, batches)
            merge = parity.passed(parity.MERGE, masked, merged)
            surgery.remove(model, structure)
            removal = common.pass_gate(parity.REMOVAL, merged, model, batches)
            measured = common.validation_metrics(parent.task, model, validation, collator, config.batch_size)
            save_plain(model, folder)
            common.save_tokenizer(tokenizer, folder)
            metrics = {
                "merge_max_abs": merge.max_abs,
                "removal_max_abs": removal.max_abs,
                "label_agreement": parity.least_agreement(merge.label_agreement, removal.label_agreement),
                "weight_sparsity": weight_sparsity(model),
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "training": training,
                "validation": measured,
            }
            manifest = checkpoint.child_of(
                parent,
                link,
                stage="prune",
                config=resolved,
                structure=structure,
                inputs=inputs,
                seed=config.seed,
                metrics=metrics,
            )
            checkpoint.write_manifest(folder, manifest)
            common.pass_gate(parity.RELOAD, common.logits_of(model, batches), checkpoint.load(folder), batches)
    checkpoint.discard_resumable(output)
    return output


def apply_mask(model: PreTrainedModel, config: PruneConfig) -> Structure:
    """Score, allocate and mask in place; returns what stays of heads and neurons."""
    criterion = config.criterion
    if criterion == "auto":
        criterion = "magnitude" if config.weights else "delta"
    layers = architectures.layers(model)
    if config.weights:
        linears = [linear for _, _, linear in architectures.named_linears(model)]
        scores = [importance.weight_scores(linear, criterion) for linear in linears]
        masking.mask_weights(model, allocation.weight_masks(scores, config.weights, config.allocation))
        return common.whole(model)
    kept = common.whole(model).model_dump()
    for name, share, score in (
        ("heads", config.heads, importance.head_scores),
        ("neurons", config.neurons, importance.neuron_scores),
    ):
        if share:
            kept[name] = allocation.keep([score(layer, criterion) for layer in layers], share, config.allocation)
    structure = Structure(**kept)
    masking.mask_structure(model, structure)
    return structure


def weight_sparsity(model: PreTrainedModel) -> float:
    """Share of zeros among the weights of all layers' Linears."""
    weights: list[Any] = [linear.weight for _, _, linear in architectures.named_linears(model)]
    return float(sum((weight == 0).sum().item() for weight in weights) / sum(weight.numel() for weight in weights))


def save_plain(model: PreTrainedModel, folder: Path) -> None:
    """Write `model.safetensors` and `config.json`."""
    checkpoint.save_tensors(model.state_dict(), folder / "model.safetensors")
    model.config.save_pretrained(folder)
