"""Scores: how much the task uses each head, neuron and weight. Pure functions, higher is more important."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..adapters.layer import DseeLinear
from ..architectures import Layer
from ..configs import Role
from ..errors import UserError

Measure = Callable[[nn.Module], Tensor | None]
"""From a Linear to the importance of its weights (d_out, d_in), or None where the criterion has no say."""


def delta(linear: nn.Module) -> Tensor | None:
    """|ΔW| with ΔW = (alpha / r) (U V + S2), the update alone (paper, section 3.3)."""
    return linear.update().detach().abs() if isinstance(linear, DseeLinear) else None


def magnitude(linear: nn.Module) -> Tensor:
    """|W|, of the weight that the forward pass uses."""
    weight = linear.effective_weight() if isinstance(linear, DseeLinear) else linear.weight
    assert isinstance(weight, Tensor)
    return weight.detach().abs()


CRITERIA: dict[str, Measure] = {"delta": delta, "magnitude": magnitude}


def head_scores(layer: Layer, criterion: str) -> Tensor:
    """One score a head, (heads): the sum over its rows in query and value (paper, section 3.3).

    Raises UserError if the criterion has no say on either.
    """
    roles: tuple[Role, ...] = ("query", "value")
    found = (CRITERIA[criterion](layer.linear(role)) for role in roles)
    scores = [_per_head(layer, measured) for measured in found if measured is not None]
    if not scores:
        raise UserError(
            f"criterion {criterion!r} scores heads by the updates of query and value, and this model has neither; "
            "fine-tune with --targets query,value or prune with --criterion magnitude"
        )
    return torch.stack(scores).sum(0)


def neuron_scores(layer: Layer, criterion: str) -> Tensor:
    """One score a neuron, (neurons), from its row in the FFN's first Linear and its column in the second.

    `delta`, where the FFN carries updates: the sum of |ΔW| over both, as for heads. Otherwise the magnitude of the
    neuron's path through both weights, ‖row‖ · ‖column‖, the Frobenius norm of their outer product: a neuron with a
    small column is unimportant however large its row is.
    """
    first, second = layer.linear("ffn_in"), layer.linear("ffn_out")
    if criterion == "delta":
        into, out = delta(first), delta(second)
        sums = [] if into is None else [into.sum(1)]
        sums += [] if out is None else [out.sum(0)]
        if sums:
            return torch.stack(sums).sum(0)
    return magnitude(first).norm(dim=1) * magnitude(second).norm(dim=0)


def weight_scores(linear: nn.Module, criterion: str) -> Tensor:
    """One score a weight, (d_out, d_in); of its magnitude where the criterion has no say on the Linear."""
    measured = CRITERIA[criterion](linear)
    return magnitude(linear) if measured is None else measured


def _per_head(layer: Layer, measured: Tensor) -> Tensor:
    return measured.unflatten(0, (layer.heads, layer.head_size)).sum((1, 2))
