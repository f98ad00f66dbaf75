"""adapter folder → smaller model (DSEE steps II and III, merge, removal)."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .. import architectures, data, models, tasks
from ..adapters import model as adapters
from ..configs import PruneConfig
from ..costs import flops
from ..evaluation import parity
from ..evaluation.parity import Parity
from ..progress import step
from ..pruning import masking, selection, surgery
from ..pruning.importance import Evidence
from ..store import folders, lineage, lock, outputs, resume, watch
from ..store.manifest import FinetuneManifest, PruneManifest
from ..store.stage_metrics import PruneMetrics, Retraining
from ..store.structure import Structure
from ..tasks import Collator, Reads, Task
from ..training import losses, trackers, trainer
from ..training.losses import ExtraLoss
from . import common, orders
from .common import GateRows
from .orders import Order

SCORING_EXAMPLES = 1024
"""Training examples that a criterion that needs data looks at."""


@lock.exclusive("output")
@watch.steady("source")
def prune(source: Path, config: PruneConfig, output: Path, overwrite: bool = False) -> Path:
    """Choose S1 from the adapter in `source`, remove what it drops, train again, merge; write a plain model.

    A removed head or neuron gives zero and learns nothing, just as a masked one does, so the model is cut before it
    is trained again: the removal gate holds the masked model against the cut one, and retuning costs what is left.
    """
    parent = FinetuneManifest.read(source)
    resolved = config.resolved()
    link = lineage.link(source, output)
    data_location = data.locate(parent.task.data)
    inputs = {"data": data.fingerprint(data_location, "train", "validation")}
    identity = {"parent": link.fingerprint, **inputs}
    if outputs.up_to_date(output, "prune", resolved, identity, overwrite):
        return output
    task, device = tasks.of(parent.task), trainer.resolve_device(config.device)
    trainer.resolve_precision(config.mixed_precision, device)
    trackers.require(config.report_to)
    architectures.require_length(models.config_of(source), "sequence_length", config.sequence_length)

    with step("read the adapter and the data"):
        model = adapters.load(source)
        tokenizer = common.tokenizer_of(source)
        rows = tasks.encode(parent.task, "train", tokenizer)
        validation = tasks.encode(parent.task, "validation", tokenizer)
        data.require_unchanged(inputs["data"], data_location, "train", "validation")
        common.tell_read(train=rows, validation=validation)
        collator = task.collator(tokenizer)
        gate = common.GateRows(parent.task, validation, tokenizer)
        selection.require_reachable(model, config)
        extra = losses.distillation(adapters.merged_copy(model), task) if config.distill else None
        watch.require_steady()

    order = orders.of(config, model.config, source)
    with folders.writing(output, overwrite) as folder:
        state = resume.state(output, {"config": resolved, **identity})
        s1 = S1(model, config, order, gate, device)
        training = _choose_and_retune(s1, task, rows, collator, config, state, trackers.folder_of(output), extra)
        with step("merge and save"):
            retuned = gate.logits(model)
            adapters.merge(model)
            merged = gate.logits(model)
            merge = gate.compare(parity.MERGE, retuned, merged)
            measured = common.validation_metrics(parent.task, model, validation, collator, config.batch_size)
            models.save(model, folder)
            common.save_tokenizer(tokenizer, folder)
            manifest = PruneManifest.child_of(
                parent,
                link,
                config=resolved,
                structure=s1.kept,
                inputs=inputs,
                seed=config.seed,
                metrics=_metrics(s1, merge, training, measured, config.sequence_length, task.reads),
            )
            manifest.write(folder)
            gate.require_reload(merged, model, partial(models.load, folder))
    resume.discard(output)
    return output


def _choose_and_retune(
    s1: "S1",
    task: Task[Any],
    rows: Any,
    collator: Collator,
    config: PruneConfig,
    state: Path,
    logs: Path,
    extra: ExtraLoss | None,
) -> list[dict[str, Any]]:
    """Go to the goal in the config's steps, training after each; what `trainer.train` says of every training."""
    training: list[dict[str, Any]] = []
    for number in range(1, config.steps + 1):
        own = state / f"step-{number}"
        with step(f"choose S1, step {number} of {config.steps}" if config.steps > 1 else "choose S1"):
            evidence = Evidence(s1.model, partial(_batches, rows, collator, config, s1.device), config.seed)
            s1.tighten(evidence, number / config.steps, own)
        if config.retune_epochs:
            told = logs if config.steps == 1 else logs / f"step-{number}"
            trained = trainer.train(
                s1.model, task, rows, collator, config, config.retune_epochs, own, "retune", extra, told
            )
            training.append(trained)
    return training


def _metrics(
    s1: "S1", merge: Parity, training: list[dict[str, Any]], measured: dict[str, float], length: int, reads: Reads
) -> PruneMetrics:
    """What the manifest says of the model."""
    config = s1.model.config
    reads = "all tokens" if architectures.pools(config) else reads
    return PruneMetrics(
        merge_max_abs=merge.max_abs,
        removal_max_abs=max((proof.max_abs for proof in s1.removals), default=0.0),
        label_agreement=parity.least_agreement(*(proof.label_agreement for proof in (merge, *s1.removals))),
        weight_sparsity=weight_sparsity(s1.model),
        flops=flops.compare(config, s1.whole, s1.kept, length, reads=reads),
        **({"order": s1.order.metrics(s1.kept)} if s1.order else {}),
        parameters=sum(parameter.numel() for parameter in s1.model.parameters()),
        training=_together(training),
        validation=measured,
    )


class S1:
    """What is left of a model, step by step, and the proof that removing the rest changed nothing but that."""

    def __init__(
        self, model: PreTrainedModel, config: PruneConfig, order: Order | None, gate: GateRows, device: str
    ) -> None:
        self.model, self._config, self.order, self._gate, self.device = model, config, order, gate, device
        self.whole = selection.whole(model)
        self._gone: list[Tensor] | None = None
        self.kept = self.whole
        """Heads and neurons that the model still has, in indices of the whole."""
        self.removals: list[Parity] = []
        """What the removal gates measured."""

    def tighten(self, evidence: Evidence, part: float, state: Path) -> None:
        """Go on to `part` of the goal. The choice is kept in `state`, so that a run that goes on makes the same."""
        choose = self._choose_units if self._config.structured else self._choose_weights
        self.model.to(self.device)
        chosen = resume.remembered(state / "s1.safetensors", partial(choose, evidence, part))
        self.model.to("cpu")
        adapters.fold_gains(self.model)
        if self._config.structured:
            self._remove(_structure(chosen))
        else:
            masks = [chosen[str(index)] for index in range(len(chosen))]
            masking.mask_weights(self.model, masks)
            self._gone = [~mask for mask in masks]

    def _choose_units(self, evidence: Evidence, part: float) -> dict[str, Tensor]:
        goal = self.order.goal if self.order else None
        return _tensors(selection.units(evidence, self.kept, self.whole, self._config, goal, part))

    def _choose_weights(self, evidence: Evidence, part: float) -> dict[str, Tensor]:
        return {str(i): mask for i, mask in enumerate(selection.weights(evidence, self._gone, self._config, part))}

    def _remove(self, smaller: Structure) -> None:
        relative = selection.within(self.kept, smaller)
        masking.mask_structure(self.model, relative)
        masked = self._gate.logits(self.model)
        surgery.remove(self.model, relative)
        self.removals.append(self._gate.require_same(parity.REMOVAL, masked, self.model))
        self.kept = smaller


def _together(trainings: list[dict[str, Any]]) -> Retraining:
    """The last training of several, with the time of all."""
    return Retraining(**trainings[-1] | {"seconds": sum(each["seconds"] for each in trainings)} if trainings else {})


def weight_sparsity(model: PreTrainedModel) -> float:
    """Share of zeros among the weights of all layers' Linears."""
    weights: list[Any] = [linear.weight for _, _, linear in architectures.named_linears(model)]
    return float(sum((weight == 0).sum().item() for weight in weights) / sum(weight.numel() for weight in weights))


def _batches(rows: Any, collator: Collator, config: PruneConfig, device: str) -> Iterable[dict[str, Tensor]]:
    """Training batches with labels for the criteria, the same at every call."""
    chosen = rows.shuffle(seed=config.seed).select(range(min(SCORING_EXAMPLES, len(rows))))
    for start in range(0, len(chosen), config.batch_size):
        some = [chosen[index] for index in range(start, min(start + config.batch_size, len(chosen)))]
        yield {name: tensor.to(device) for name, tensor in collator(some).items()}


def _tensors(structure: Structure) -> dict[str, Tensor]:
    return {
        f"{unit}.{index}": torch.tensor(kept)
        for unit, layers in structure.model_dump().items()
        for index, kept in enumerate(layers)
    }


def _structure(tensors: dict[str, Tensor]) -> Structure:
    layers = range(len(tensors) // 2)
    return Structure(
        heads=[tensors[f"heads.{index}"].tolist() for index in layers],
        neurons=[tensors[f"neurons.{index}"].tolist() for index in layers],
    )
