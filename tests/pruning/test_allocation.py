from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsee_compress.pruning import allocation
from dsee_compress.pruning.allocation import Cut, UnitScores
from dsee_compress.store.structure import Structure

layers = st.lists(st.lists(st.integers(0, 6).map(float), min_size=1, max_size=9), min_size=1, max_size=5).map(
    lambda values: [torch.tensor(layer) for layer in values]
)
shares = st.floats(0, 0.99)


@given(layers, shares)
def test_per_layer_keeps_the_best_of_each_layer_and_at_least_one(scores, share):
    for layer, kept in zip(scores, allocation.keep(scores, share, "per-layer"), strict=True):
        assert len(kept) == len(layer) - min(int(share * len(layer) + 1e-9), len(layer) - 1) >= 1
        assert kept == sorted(set(kept))
        gone = set(range(len(layer))) - set(kept)
        assert all(layer[keep] >= layer[drop] for keep in kept for drop in gone)


@given(layers, shares)
def test_global_removes_the_lowest_anywhere_but_each_layers_best(scores, share):
    kept = allocation.keep(scores, share, "global")
    total = sum(len(layer) for layer in scores)
    assert sum(map(len, kept)) == total - min(int(share * total + 1e-9), total - len(scores))
    assert all(kept)
    gone = [layer[i] for layer, k in zip(scores, kept, strict=True) for i in range(len(layer)) if i not in k]
    for layer, k in zip(scores, kept, strict=True):
        best = int(layer.argmax())
        assert best in k, "each layer keeps its best unit"
        assert all(layer[i] >= low for i in k if i != best for low in gone)


def test_global_differs_between_layers_where_the_scores_do():
    scores = [torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([10.0, 20.0, 30.0, 40.0])]
    assert allocation.keep(scores, 0.5, "global") == [[3], [1, 2, 3]]
    assert allocation.keep(scores, 0.375, "global") == [[3], [0, 1, 2, 3]]
    assert allocation.keep(scores, 0.5, "per-layer") == [[2, 3], [2, 3]]


@given(st.integers(1, 8), st.integers(1, 8), shares, st.sampled_from(["per-layer", "global"]))
def test_weight_masks_remove_the_asked_share_and_the_smallest(rows, columns, share, scope):
    scores = [torch.rand(rows, columns), torch.rand(columns, 3)]
    masks = allocation.weight_masks(scores, share, scope)
    assert [mask.shape for mask in masks] == [matrix.shape for matrix in scores]
    if scope == "per-layer":
        pairs = list(zip(scores, masks, strict=True))
    else:
        pairs = [(torch.cat([s.flatten() for s in scores]), torch.cat([m.flatten() for m in masks]))]
    for matrix, mask in pairs:
        removed = matrix[mask == 0]
        assert len(removed) == int(share * matrix.numel() + 1e-9)
        if len(removed) and mask.any():
            assert removed.max() <= matrix[mask == 1].min()


def test_a_share_that_binary_fractions_fall_short_of_is_the_share_asked_for():
    """0.29 · 100 is 28.999999999999996 in floating point."""
    scores = [torch.arange(100.0)]
    assert len(allocation.keep(scores, 0.29, "per-layer")[0]) == 71
    assert len(allocation.keep(scores, 0.29, "global")[0]) == 71
    assert int(allocation.weight_masks(scores, 0.29, "global")[0].sum()) == 71


@given(layers, shares, st.integers(1, 5), st.sampled_from(["per-layer", "global"]))
def test_rounding_leaves_multiples_or_all_and_the_best_of_each_layer(scores, share, multiple, scope):
    exact = allocation.keep(scores, share, scope)
    for layer, plain, kept in zip(scores, exact, allocation.keep(scores, share, scope, multiple), strict=True):
        if len(plain) == len(layer):
            assert kept == plain
            continue
        assert len(kept) == len(layer) or len(kept) % multiple == 0
        assert len(kept) >= 1 and abs(len(kept) - len(plain)) <= max(multiple / 2, multiple - len(plain))
        gone = set(range(len(layer))) - set(kept)
        assert all(layer[keep] >= layer[drop] for keep in kept for drop in gone)


@given(st.floats(0, 0.99), st.integers(1, 300))
def test_the_share_found_saves_enough_and_one_unit_less_would_not(target, count):
    def saved(share: float) -> float:
        return int(share * count) / count

    share = allocation.smallest_share(lambda share: saved(share) >= target)
    assert saved(share) >= target
    assert share < 1e-9 or saved(share - 1e-9) < target


@dataclass(frozen=True)
class Even:
    """Each head costs the same, and each neuron, in whatever layer."""

    base: int
    head: int
    neuron: int
    unit: ClassVar[str] = "FLOPs"

    def of(self, structure: Structure) -> float:
        return self.base + self.head * sum(structure.head_counts) + self.neuron * sum(structure.neuron_counts)


@dataclass(frozen=True)
class Odd(Even):
    """As a card's: a layer with an odd number of neurons costs more than one with a neuron more."""

    def of(self, structure: Structure) -> float:
        return super().of(structure) + 3 * self.neuron * sum(count % 2 for count in structure.neuron_counts)


costs = {"base": st.integers(1, 10**6), "head": st.integers(1, 10**6), "neuron": st.integers(1, 10**6)}
cuts = st.builds(
    Cut,
    allocation=st.sampled_from(["per-layer", "global"]),
    round_to=st.integers(1, 3),
    gone=st.sampled_from([0.0, 0.3]),
)


@st.composite
def unit_scores(draw):
    count = draw(st.integers(1, 4))
    layer = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=9).map(torch.tensor)
    several = st.lists(layer, min_size=count, max_size=count)
    return UnitScores(draw(several), draw(several))


@given(unit_scores(), st.builds(Even, **costs), cuts, st.integers(0, 950).map(lambda target: target / 1000))
def test_a_budget_of_even_costs_is_met_as_by_counting_what_each_head_and_neuron_saves(scores, cost, cut, target):
    """The reference is linear in the sums over layers: it knows what is removed, and no structure."""
    heads, neurons = sum(map(len, scores.heads)), sum(map(len, scores.neurons))
    whole = cost.base + cost.head * heads + cost.neuron * neurons

    def kept(head_share: float, neuron_share: float) -> Structure:
        return Structure(
            heads=allocation.keep(scores.heads, head_share, cut.allocation),
            neurons=allocation.keep(scores.neurons, max(neuron_share, cut.gone), cut.allocation, cut.round_to),
        )

    def saved(head_share: float, neuron_share: float) -> float:
        found = kept(head_share, neuron_share)
        fewer_heads, fewer_neurons = heads - sum(found.head_counts), neurons - sum(found.neuron_counts)
        return (fewer_heads * cost.head + fewer_neurons * cost.neuron) / whole

    def smallest(saves) -> float:
        low, high = 0.0, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (low, middle) if saves(middle) >= target else (middle, high)
        return high

    if saved(1.0, 1.0) < target:
        with pytest.raises(allocation.OverBudgetError, match=rf"at most {saved(1.0, 1.0):.1%} can be saved"):
            allocation.solve(scores, cost, (1 - target) * whole, cut)
        return
    share = smallest(lambda share: saved(share, share))
    expected = kept(share, smallest(lambda neurons: saved(share, neurons)))
    assert allocation.solve(scores, cost, (1 - target) * whole, cut) == expected


@given(unit_scores(), st.builds(Odd, **costs), cuts, st.floats(0, 0.95))
def test_a_budget_is_kept_though_less_may_cost_more(scores, cost, cut, target):
    budget = (1 - target) * cost.of(allocation.everything(scores))
    if cost.of(cut.of(scores, 1.0, 1.0)) <= budget:
        assert cost.of(allocation.solve(scores, cost, budget, cut)) <= budget * (1 + 1e-9)


def test_more_than_can_be_saved_is_refused_with_what_can():
    scores = UnitScores([torch.ones(10)], [torch.ones(10)])
    with pytest.raises(allocation.OverBudgetError, match=r"at most 80.0% can be saved"):
        allocation.solve(scores, Even(base=10, head=4, neuron=4), 9.0, Cut())


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.data())
def test_semi_structured_keeps_the_best_of_every_group(rows, groups, group, data):
    kept = data.draw(st.integers(0, group))
    scores = torch.rand(rows, groups * group)
    mask = allocation.semi_structured_mask(scores, kept, group)
    assert mask.shape == scores.shape
    for row in range(rows):
        for start in range(0, groups * group, group):
            part, here = scores[row, start : start + group], mask[row, start : start + group].bool()
            assert int(here.sum()) == kept
            if 0 < kept < group:
                assert part[here].min() >= part[~here].max()


def test_groups_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="rows of 6 weights do not divide into groups of 4"):
        allocation.semi_structured_mask(torch.ones(2, 6), 2, 4)
