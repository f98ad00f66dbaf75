"""DSEE step II: from a model, a goal and a criterion to S1: the units or the single weights that stay."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from .. import architectures
from ..configs import PruneConfig
from ..costs.flops import Flops
from ..costs.table import Table
from ..errors import UserError
from ..store.structure import Structure
from . import allocation, solver
from .allocation import Cut, OverBudgetError, UnitScores
from .importance import CRITERIA, Criterion, Evidence


@dataclass(frozen=True)
class Goal:
    """What a device allows."""

    table: Table
    budget: float
    """In the table's unit."""

    def at(self, part: float, whole: Structure) -> float:
        """The budget when `part` of the way from the `whole` model is done."""
        dense = self.table.of(whole)
        return dense - max(dense - self.budget, 0.0) * part


def criterion_of(config: PruneConfig) -> Criterion:
    """The criterion that the config names; `auto` is the best measured for its goal."""
    return CRITERIA[("taylor" if config.structured else "combined") if config.criterion == "auto" else config.criterion]


def units(
    evidence: Evidence, kept: Structure, whole: Structure, config: PruneConfig, goal: Goal | None, part: float
) -> Structure:
    """What stays of the `whole` model when `part` of the way to the goal, or to the config's, is done.

    kept: what `evidence.model` still has, in indices of the whole; part: in (0, 1]. Units that are gone stay gone.
    Raises UserError if the goal is out of reach.
    """
    criterion = criterion_of(config)
    found = criterion.units(evidence)
    if goal is not None and not criterion.comparable:
        found = UnitScores(_shares(found.heads), _shares(found.neurons))
    scores = UnitScores(
        _spread(found.heads, kept.heads, whole.heads), _spread(found.neurons, kept.neurons, whole.neurons)
    )
    if goal is not None:
        return solver.solve(scores, goal.table, goal.at(part, whole)).structure
    gone = _share_gone(kept.neurons, whole.neurons, config)
    return _smallest_cut(evidence.model.config, scores, config, part, gone)


def require_reachable(model: PreTrainedModel, config: PruneConfig) -> None:
    """Raise UserError if no scores could reach the goal; `model` may be without storage.

    What a goal takes from each layer, or from all, does not depend on the scores, so any will do.
    """
    if config.semi_structured is not None:
        group = int(config.semi_structured.partition(":")[2])
        for _, _, linear in architectures.named_linears(model):
            if linear.weight.shape[1] % group:
                raise UserError(
                    f"semi_structured {config.semi_structured} does not fit: rows of {linear.weight.shape[1]} weights "
                    f"do not divide into groups of {group}"
                )
    if config.flops_saved is not None:
        layers = architectures.layers(model)
        alike = UnitScores([torch.ones(each.heads) for each in layers], [torch.ones(each.neurons) for each in layers])
        _smallest_cut(model.config, alike, config, 1.0, 0.0)


def _smallest_cut(
    model: PretrainedConfig, scores: UnitScores, config: PruneConfig, part: float, gone: float
) -> Structure:
    """The largest structure that reaches `part` of the goal, the share `gone` of the neurons removed at the least."""
    cut = Cut(config.allocation, config.round_to, gone)
    if config.flops_saved is None:
        return cut.of(scores, (config.heads or 0) * part, (config.neurons or 0) * part)
    cost = Flops(model, config.sequence_length)
    budget = (1 - config.flops_saved * part) * cost.of(allocation.everything(scores))
    try:
        return allocation.solve(scores, cost, budget, cut)
    except OverBudgetError as error:
        raise UserError(
            f"flops_saved {config.flops_saved:g} is out of reach: {error} when each layer keeps a head and a neuron"
        ) from error


def weights(evidence: Evidence, gone: list[Tensor] | None, config: PruneConfig, part: float) -> list[Tensor]:
    """Masks S1, bool, in the order of `architectures.named_linears`, when `part` of the goal is reached.

    gone: True where a weight was removed in an earlier step.
    """
    scores = [score.cpu() for score in criterion_of(config).weights(evidence)]
    if gone is not None:
        scores = [score.masked_fill(removed, -1.0) for score, removed in zip(scores, gone, strict=True)]
    if config.semi_structured is None:
        assert config.weights is not None
        return [mask.bool() for mask in allocation.weight_masks(scores, config.weights * part, config.allocation)]
    kept, _, group = config.semi_structured.partition(":")
    return [allocation.semi_structured_mask(score, int(kept), int(group)).bool() for score in scores]


def whole(model: PreTrainedModel) -> Structure:
    """The structure of a model that keeps everything that it has."""
    layers = architectures.layers(model)
    return Structure(
        heads=[list(range(layer.heads)) for layer in layers],
        neurons=[list(range(layer.neurons)) for layer in layers],
    )


def within(kept: Structure, smaller: Structure) -> Structure:
    """`smaller`, in indices of the whole model, as indices of a model that has `kept`."""

    def relative(have: list[list[int]], want: list[list[int]]) -> list[list[int]]:
        return [[layer.index(unit) for unit in wanted] for layer, wanted in zip(have, want, strict=True)]

    return Structure(heads=relative(kept.heads, smaller.heads), neurons=relative(kept.neurons, smaller.neurons))


def _shares(scores: list[Tensor]) -> list[Tensor]:
    """Scores whose sum over all layers is 1: so heads and neurons weigh alike where their own scales say nothing."""
    total = sum(float(layer.double().sum()) for layer in scores)
    return [layer / total if total else layer for layer in scores]


def _spread(scores: list[Tensor], kept: list[list[int]], whole: list[list[int]]) -> list[Tensor]:
    """Scores in the whole model's indices; what is gone is worth less than anything."""
    return [
        torch.full((len(units),), -torch.inf).index_copy(0, torch.tensor(have), score.float().cpu())
        for score, have, units in zip(scores, kept, whole, strict=True)
    ]


def _share_gone(kept: list[list[int]], whole: list[list[int]], config: PruneConfig) -> float:
    """The share of the units whose removal left `kept`: a smaller one would bring some back."""
    have, had = [len(layer) for layer in kept], [len(layer) for layer in whole]
    if config.allocation == "global":
        have, had = [sum(have)], [sum(had)]
    return max(1 - left / before for left, before in zip(have, had, strict=True))
