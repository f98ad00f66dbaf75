"""transformers' Trainer over a model of which only updates and task head are trained."""

import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainingArguments

from .. import distributed
from ..configs import FinetuneConfig, PruneConfig
from ..errors import UserError
from ..store import space
from ..tasks import Collator, Task
from ..weights import load_tensors, save_tensors
from . import trackers
from .callbacks import (
    CheckpointMarker,
    FiniteLoss,
    RichProgress,
    discard_unmarked,
    diverged,
    last_whole_checkpoint,
)
from .losses import ExtraLoss


class _OneDevice(TrainingArguments):
    """One device a process: several cards are for several processes, not for DataParallel."""

    @property
    def n_gpu(self) -> int:
        return min(super().n_gpu, 1)

    @property
    def device(self) -> torch.device:
        """Without the index that accelerate gives a CPU, which torch.load does not know when training resumes."""
        device = super().device
        return torch.device("cpu") if device.type == "cpu" else device


class DseeTrainer(Trainer):
    """A Trainer whose checkpoints hold the trained parameters alone: the frozen ones are at hand when it resumes."""

    extra: ExtraLoss | None = None
    trained_on: Callable[[dict[str, Any]], dict[str, Any]]
    """As `Task.trained_on`."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The task's loss, and the extra one if there is one."""
        if self.extra is None:
            return super().compute_loss(model, self.trained_on(inputs), return_outputs, num_items_in_batch)
        batch = inputs | self.extra.options
        loss, outputs = super().compute_loss(model, batch, return_outputs=True, num_items_in_batch=num_items_in_batch)
        loss = loss + self.extra.of(inputs, outputs)
        return (loss, outputs) if return_outputs else loss

    def _get_train_sampler(self, *args: Any) -> Any:
        """Sampler of all processes together: they see the examples of one process with as large a batch."""
        sampler = super()._get_train_sampler(*args)
        sampler.batch_size *= distributed.processes()
        return sampler

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_tensors(_trained(self.model), folder / "model.safetensors")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        saved = load_tensors(Path(resume_from_checkpoint) / "model.safetensors")
        trained = _trained(self.model)
        if saved.keys() != trained.keys():
            raise UserError(f"{resume_from_checkpoint} is of another model; remove it and run the command again")
        with torch.no_grad():
            for name, tensor in trained.items():
                tensor.copy_(saved[name])


def train(
    model: PreTrainedModel,
    task: Task[Any],
    rows: Any,
    collator: Collator,
    config: FinetuneConfig | PruneConfig,
    epochs: int,
    checkpoints: Path,
    label: str,
    extra: ExtraLoss | None = None,
    logs: Path | None = None,
) -> dict[str, Any]:
    """Train the parameters that require a gradient, in place; the model comes back on the CPU in eval mode.

    Goes on from the last whole checkpoint in `checkpoints`. `label` names the work in the progress bar; `extra` is
    added to the task's loss; tensorboard, if it is told of the training, writes to `logs`. Raises UserError if the mean
    loss of an epoch or the trained weights are not finite, the disk is full, or labels that are no classes are to be
    smoothed.
    Returns seconds, steps, device, precision, processes and the mean loss of the last epoch.
    """
    if config.label_smoothing and task.unsmoothed:
        raise UserError(f"label_smoothing is about classes and tokens, not {task.unsmoothed}")
    device = resolve_device(config.device)
    precision = resolve_precision(config.mixed_precision, device)
    steps = -(-len(rows) // (config.batch_size * distributed.processes())) * epochs
    # The Trainer leaves its mixed precision in the environment, where the next one of the process would find it.
    os.environ["ACCELERATE_MIXED_PRECISION"] = "no" if precision == "fp32" else precision
    arguments = _arguments(config, epochs, steps, checkpoints, logs.stem if logs else None, device, precision)
    trainer = DseeTrainer(model, arguments, data_collator=collator, train_dataset=rows)
    trainer.extra, trainer.trained_on = extra, task.trained_on
    trainer.remove_callback(PrinterCallback)
    whole, earlier = last_whole_checkpoint(checkpoints)
    marker = CheckpointMarker(earlier)
    trainer.add_callback(marker)
    trainer.add_callback(FiniteLoss(config.learning_rate))
    progress = RichProgress(label)
    trainer.add_callback(progress)
    for tracker in trackers.callbacks(config.report_to, logs):
        trainer.add_callback(tracker)
    try:
        with space.told(checkpoints):
            trainer.train(resume_from_checkpoint=whole)
    finally:
        progress.stop()
        if distributed.is_main():
            discard_unmarked(checkpoints)
    # Mixed precision wraps the forward pass; what follows is measured in fp32.
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False).to("cpu").eval()
    if not all(torch.isfinite(tensor).all() for tensor in _trained(model).values()):
        raise diverged(config.learning_rate)
    return {
        "seconds": marker.seconds,
        "steps": trainer.state.global_step,
        "device": device,
        "precision": precision,
        "processes": distributed.processes(),
        "loss": next(entry["loss"] for entry in reversed(trainer.state.log_history) if "loss" in entry),
    }


def _arguments(
    config: FinetuneConfig | PruneConfig,
    epochs: int,
    steps: int,
    checkpoints: Path,
    name: str | None,
    device: str,
    precision: str,
) -> TrainingArguments:
    """What transformers' Trainer is told; `steps` of all epochs, `name` of the training to whom it is told."""
    return _OneDevice(
        output_dir=str(checkpoints),
        num_train_epochs=epochs,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup_steps=round(config.warmup * steps),
        label_smoothing_factor=config.label_smoothing,
        seed=config.seed,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=device == "cpu",
        dataloader_pin_memory=device == "cuda",
        save_strategy="epoch",
        save_total_limit=2,
        logging_strategy="epoch",
        logging_nan_inf_filter=False,
        report_to=trackers.made_by_trainer(config.report_to) or "none",
        run_name=name,
        disable_tqdm=True,
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
        average_tokens_across_devices=False,
        **_group_by_length(),
    )


def resolve_device(asked: str) -> str:
    """`auto` to what is there; UserError if CUDA is asked for and not there."""
    if asked == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda was asked for, and PyTorch finds no CUDA device; use --device cpu or auto")
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return asked


def resolve_precision(asked: str, device: str) -> str:
    """`auto` to bf16 where the card has it, else fp32; UserError for fp16 on a CPU."""
    if asked == "fp16" and device == "cpu":
        raise UserError("mixed_precision fp16 trains on CUDA only; use bf16 or fp32 on the CPU")
    if asked == "auto":
        return "bf16" if device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return asked


def _trained(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _group_by_length() -> dict[str, Any]:
    """Batches of similar length pad little. transformers 5 renamed the option."""
    if "group_by_length" in {field.name for field in fields(TrainingArguments)}:
        return {"group_by_length": True}
    return {"train_sampling_strategy": "group_by_length"}
