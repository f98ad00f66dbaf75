"""What is added to the task's loss: distillation in retune, the slimming penalty in step I."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from ..adapters import model as adapters
from ..tasks import Task


@dataclass(frozen=True)
class ExtraLoss:
    """A term beside the task's loss."""

    of: Callable[[dict[str, Any], Any], Tensor]
    """From a batch and the trained model's outputs to the term."""
    options: dict[str, Any] = field(default_factory=dict)
    """What the trained model has to be called with for it."""


def slimming(model: PreTrainedModel, strength: float) -> ExtraLoss:
    """strength · Σ|c| over the coefficients of all heads and neurons (Liu et al., 2017; Chen et al., 2021)."""
    gains = [layer.gain for layer in adapters.updates(model).values() if layer.gain is not None]
    return ExtraLoss(lambda batch, outputs: strength * torch.stack([gain.abs().sum() for gain in gains]).sum())


def distillation(teacher: PreTrainedModel, task: Task[Any], temperature: float = 2.0) -> ExtraLoss:
    """Draw logits and every layer's hidden states towards those of `teacher` (Hinton et al., 2015; Jiao et al., 2020).

    KL divergence of the softened answers, times temperature², and the mean squared difference of hidden states over
    tokens that are no padding, relative to the teacher's mean square. One logit is a regression: squared difference.
    The residual stream keeps its width in structured pruning, so hidden states can be compared as they are.
    """
    teacher.requires_grad_(False).eval()

    def term(batch: dict[str, Any], outputs: Any) -> Tensor:
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        with torch.no_grad():
            wanted = teacher.to(outputs.logits.device)(**inputs, output_hidden_states=True)
        real = batch["attention_mask"].bool()
        hidden = [
            functional.mse_loss(ours[real], theirs[real]) / theirs[real].square().mean()
            for ours, theirs in zip(outputs.hidden_states[1:], wanted.hidden_states[1:], strict=True)
        ]
        ours, theirs = (task.answering(logits, batch) for logits in (outputs.logits, wanted.logits))
        return _answers(ours, theirs, temperature) + torch.stack(hidden).mean()

    return ExtraLoss(term, {"output_hidden_states": True})


def _answers(ours: Tensor, theirs: Tensor, temperature: float) -> Tensor:
    if ours.shape[-1] == 1:
        return functional.mse_loss(ours, theirs)
    soft, target = (functional.log_softmax(logits / temperature, dim=-1) for logits in (ours, theirs))
    return functional.kl_div(soft, target, reduction="batchmean", log_target=True) * temperature**2
