"""Gates: at every hand-over, what comes out is compared with what went in (DESIGN section 7)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..errors import GateError
from .inputs import Batch, Forward, Logits


@dataclass(frozen=True)
class Gate:
    """A comparison of logits that must hold before a folder is written."""

    name: str
    compares: str
    limit: float


MERGE = Gate("merge", "adapter model and merged model", 1e-4)
REMOVAL = Gate("removal", "masked model and physically smaller model", 1e-4)
RELOAD = Gate("reload", "model before saving and after loading", 0.0)
VOCABULARY = Gate("vocabulary", "model before and after its vocabulary was trimmed", 0.0)
VOCABULARY_SCORES = Gate("vocabulary", "the kept tokens before and after the vocabulary was trimmed", 1e-4)
"""Of decoders: their last product is then of another size, and its sums may be rounded otherwise."""
EXPORT = Gate("export", "PyTorch and ONNX Runtime fp32", 1e-3)


@dataclass(frozen=True)
class Parity:
    """What a gate measured."""

    max_abs: float
    """Largest absolute difference of two logits."""
    label_agreement: float | None
    """Share of rows with the same arg max; None for models whose largest logit names no label."""


def torch_forward(model: Callable[..., Any]) -> Forward:
    """`model`, in eval mode on the CPU, or an OnnxGenerator on any device, as a function from a batch to logits."""
    device = getattr(model, "device", "cpu")

    @torch.inference_mode()
    def forward(batch: Batch) -> Logits:
        tensors = {name: torch.as_tensor(array).to(device) for name, array in batch.items()}
        logits: Logits = model(**tensors).logits.float().cpu().numpy()
        return logits

    return forward


def passed(gate: Gate, reference: Iterable[Logits], candidate: Iterable[Logits], *, labelled: bool = True) -> Parity:
    """Compare two models' logits batch by batch.

    labelled: whether the largest logit of a row names its label.

    Raises GateError, saying what was compared and by how much it differs, if a difference is above the gate's
    limit or not finite, or if a label differs.
    """
    pairs = list(zip(reference, candidate, strict=True))
    differences = [np.abs(left.astype(np.float64) - right).max() for left, right in pairs]
    agreement = None
    if labelled:
        agreement = float(
            np.mean(np.concatenate([(left.argmax(-1) == right.argmax(-1)).ravel() for left, right in pairs]))
        )
    parity = Parity(float(np.max(differences)), agreement)
    if not parity.max_abs <= gate.limit or agreement not in (None, 1.0):
        raise GateError(
            f"gate {gate.name!r} failed: logits of {gate.compares} differ by up to {parity.max_abs:.3g} "
            f"(limit {gate.limit:g})" + ("" if agreement is None else f", {agreement:.2%} of the labels agree")
        )
    return parity


def least_agreement(*agreements: float | None) -> float | None:
    """The smallest label agreement of several comparisons; None if none of them compared labels."""
    return min((agreement for agreement in agreements if agreement is not None), default=None)
