"""Scores: how much the task uses each head, neuron and weight; higher is more important. One registry.

Where a criterion reads weights alone it is a function from a Linear to the importance of its entries; what a head or
a neuron is worth follows from it. Where it needs data, or coefficients of its own, it scores the units directly.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .. import architectures
from ..adapters.layer import DseeLinear
from ..adapters.model import merged_copy
from ..architectures import Layer
from ..configs import Role
from ..errors import UserError
from .allocation import UnitScores


@dataclass(frozen=True)
class Evidence:
    """What a criterion may look at."""

    model: PreTrainedModel
    """With its updates in place, in eval mode."""
    batches: Callable[[], Iterable[dict[str, Tensor]]]
    """Training batches with labels, on the model's device; the same ones at every call."""
    seed: int


@dataclass(frozen=True)
class Criterion:
    """How units and single weights are scored."""

    units: Callable[[Evidence], UnitScores]
    weights: Callable[[Evidence], list[Tensor]]
    """One tensor (d_out, d_in) a Linear, in the order of `architectures.named_linears`."""
    comparable: bool = False
    """Whether a head's score and a neuron's say the same: what the loss gains without the unit."""


Measure = Callable[[nn.Module], Tensor | None]
"""From a Linear to the importance of its entries (d_out, d_in), or None where it has no say."""


def delta(linear: nn.Module) -> Tensor | None:
    """|ΔW| with ΔW = (alpha / r) (U V + S2), the update alone (paper, section 3.3)."""
    return linear.update().detach().abs() if isinstance(linear, DseeLinear) and linear.carries_update else None


def magnitude(linear: nn.Module) -> Tensor:
    """|W|, the pretrained weight alone."""
    return _tensor(linear.weight).detach().abs()


def combined(linear: nn.Module) -> Tensor:
    """|W + ΔW|, of the weight that the forward pass uses."""
    weight = linear.effective_weight() if isinstance(linear, DseeLinear) else _tensor(linear.weight)
    return weight.detach().abs()


def from_measure(measure: Measure) -> Criterion:
    """A criterion that reads weights alone.

    A head is worth the sum over its rows in query and value (paper, section 3.3). A neuron, where `measure` knows the
    FFN, the magnitude of its path through both Linears, ‖row‖ · ‖column‖: one with a small column is unimportant
    however large its row is. Where it does not, that of the weight in use. The units' scores raise UserError if
    `measure` knows neither query nor value.
    """

    def units(evidence: Evidence) -> UnitScores:
        layers = architectures.layers(evidence.model)
        return UnitScores([_heads(measure, layer) for layer in layers], [_neurons(measure, layer) for layer in layers])

    def weights(evidence: Evidence) -> list[Tensor]:
        return [_or_combined(measure, linear) for _, _, linear in architectures.named_linears(evidence.model)]

    return Criterion(units, weights)


def taylor_units(evidence: Evidence) -> UnitScores:
    """Mean over examples of (∂loss/∂m)², with m = 1 a factor on a head's or a neuron's output.

    The diagonal of the empirical Fisher information of the mask: to second order, what removing the unit alone adds
    to the loss (Molchanov et al., 2019; Kwon et al., 2022).
    """
    layers = architectures.layers(evidence.model)
    heads = [torch.zeros(layer.heads) for layer in layers]
    neurons = [torch.zeros(layer.neurons) for layer in layers]
    places = [(layer.linear("attention_output"), heads[i]) for i, layer in enumerate(layers)]
    places += [(layer.linear("ffn_out"), neurons[i]) for i, layer in enumerate(layers)]
    gates: list[Tensor] = [torch.empty(0)] * len(places)

    def apply_gate(index: int, _: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        (x,) = inputs
        gates[index] = x.new_ones((x.shape[0], *[1] * (x.dim() - 2), x.shape[-1])).requires_grad_()
        return (x * gates[index],)

    hooks = [linear.register_forward_pre_hook(partial(apply_gate, index)) for index, (linear, _) in enumerate(places)]
    try:
        for batch in evidence.batches():
            gradients = torch.autograd.grad(evidence.model(**batch).loss, gates)
            for (_, total), gradient in zip(places, gradients, strict=True):
                # The loss is a batch's mean, so an example's own gradient is its share times the batch.
                example = gradient.flatten(1).unflatten(1, (len(total), -1)).sum(2) * len(gradient)
                total += example.square().sum(0).cpu()
    finally:
        for hook in hooks:
            hook.remove()
    return UnitScores(heads, neurons)


def taylor_weights(evidence: Evidence) -> list[Tensor]:
    """Sum over batches of (w ∂loss/∂w)², of the weight in use (Molchanov et al., 2019)."""
    model = merged_copy(evidence.model)
    weights = [_tensor(linear.weight).requires_grad_() for _, _, linear in architectures.named_linears(model)]
    totals = [torch.zeros_like(weight) for weight in weights]
    for batch in evidence.batches():
        gradients = torch.autograd.grad(model(**batch).loss, weights)
        for total, weight, gradient in zip(totals, weights, gradients, strict=True):
            total += (weight.detach() * gradient).square()
    return totals


def slimming_units(evidence: Evidence) -> UnitScores:
    """|c|, the coefficient that the unit's output was multiplied by and that an L1 penalty drew to zero in step I."""
    layers = architectures.layers(evidence.model)
    try:
        return UnitScores(
            [_gain(layer.linear("attention_output")).abs() for layer in layers],
            [_gain(layer.linear("ffn_out")).abs() for layer in layers],
        )
    except AttributeError as error:
        raise UserError(
            "criterion 'slimming' needs the coefficients of finetune --slimming, and this model has none"
        ) from error


def random_units(evidence: Evidence) -> UnitScores:
    """Uniform noise: what any other criterion has to beat."""
    generator = torch.Generator().manual_seed(evidence.seed)
    layers = architectures.layers(evidence.model)
    return UnitScores(
        [torch.rand(layer.heads, generator=generator) for layer in layers],
        [torch.rand(layer.neurons, generator=generator) for layer in layers],
    )


def random_weights(evidence: Evidence) -> list[Tensor]:
    """Uniform noise."""
    generator = torch.Generator().manual_seed(evidence.seed)
    linears = architectures.named_linears(evidence.model)
    return [torch.rand(_tensor(linear.weight).shape, generator=generator) for _, _, linear in linears]


def _no_weights(evidence: Evidence) -> list[Tensor]:
    raise UserError("criterion 'slimming' scores heads and neurons, not single weights; choose another for --weights")


CRITERIA: dict[str, Criterion] = {
    "delta": from_measure(delta),
    "combined": from_measure(combined),
    "magnitude": from_measure(magnitude),
    "slimming": Criterion(slimming_units, _no_weights),
    "taylor": Criterion(taylor_units, taylor_weights, comparable=True),
    "random": Criterion(random_units, random_weights),
}


def _heads(measure: Measure, layer: Layer) -> Tensor:
    roles: tuple[Role, ...] = ("query", "value")
    measured = [found for role in roles if (found := measure(layer.linear(role))) is not None]
    if not measured:
        raise UserError(
            "criterion 'delta' scores heads by the updates of query and value, and this model has neither; "
            "fine-tune with --targets query,value or prune with another --criterion"
        )
    return torch.stack([found.unflatten(0, (layer.heads, -1)).sum((1, 2)) for found in measured]).sum(0)


def _neurons(measure: Measure, layer: Layer) -> Tensor:
    # The gate of a gated FFN multiplies what the first Linear gives, so its rows go with it.
    first, second = layer.linear("ffn_in"), layer.linear("ffn_out")
    rows, columns = measure(first), measure(second)
    if rows is not None and columns is not None:
        return rows.norm(dim=1) * columns.norm(dim=0)
    if rows is not None:
        return rows.norm(dim=1)
    if columns is not None:
        return columns.norm(dim=0)
    return combined(first).norm(dim=1) * combined(second).norm(dim=0)


def _gain(linear: nn.Module) -> Tensor:
    """The coefficients that feed `linear`; AttributeError if it has none."""
    return _tensor(linear.gain.detach())


def _or_combined(measure: Measure, linear: nn.Module) -> Tensor:
    measured = measure(linear)
    return combined(linear) if measured is None else measured


def _tensor(weight: Any) -> Tensor:
    assert isinstance(weight, Tensor)
    return weight
