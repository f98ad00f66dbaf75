"""The solver against every structure there is."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsee_compress.costs.table import Curve, Table
from dsee_compress.pruning import solver
from dsee_compress.pruning.allocation import OverBudgetError, UnitScores
from dsee_compress.store.structure import Structure


@st.composite
def problems(draw, most_layers=3, most_units=4):
    """Scores, a table and a budget that the cheapest structure keeps to; any count from none on is on offer."""
    layers = draw(st.integers(1, most_layers))
    units = st.lists(st.floats(0, 10, width=32), min_size=1, max_size=most_units)
    scores = [torch.tensor(draw(units)) for _ in range(2 * layers)]
    costs = [draw(st.lists(st.floats(0, 5), min_size=len(part) + 1, max_size=len(part) + 1)) for part in scores]
    curves = [Curve(tuple(range(len(part) + 1)), tuple(cost)) for part, cost in zip(scores, costs, strict=True)]
    table = Table("ms", draw(st.floats(0, 3)), tuple(curves[:layers]), tuple(curves[layers:]))
    most = table.elsewhere + sum(max(curve.costs) for curve in curves)
    budget = table.least + draw(st.floats(0, 1)) * (most - table.least)
    return UnitScores(scores[:layers], scores[layers:]), table, budget


def least_loss(scores, table, budget):
    """By looking at all subsets' sizes: of a size, the units with the lowest scores go."""
    parts = [sorted(part.tolist()) for part in (*scores.heads, *scores.neurons)]
    curves = (*table.heads, *table.neurons)
    best = np.inf
    for counts in product(*(range(len(part) + 1) for part in parts)):
        cost = table.elsewhere + sum(curve.costs[count] for curve, count in zip(curves, counts, strict=True))
        loss = sum(sum(part[: len(part) - count]) for part, count in zip(parts, counts, strict=True))
        if cost <= budget * (1 + 1e-12):
            best = min(best, loss)
    return best


def lost(scores, structure):
    pairs = zip((*scores.heads, *scores.neurons), (*structure.heads, *structure.neurons), strict=True)
    return sum(float(part.double().sum() - part[kept].double().sum()) for part, kept in pairs)


@given(problems())
def test_no_structure_within_the_budget_loses_less(problem):
    scores, table, budget = problem
    found = solver.solve(scores, table, budget)
    assert found.cost <= budget * (1 + 1e-9) + 1e-12
    assert found.cost == pytest.approx(table.of(found.structure))
    assert found.loss == pytest.approx(lost(scores, found.structure), abs=1e-9)
    assert found.loss == pytest.approx(least_loss(scores, table, budget), abs=1e-9)
    assert found.bound == found.loss


@given(problems())
def test_a_thinned_frontier_keeps_to_the_budget_and_its_bound_is_one(problem):
    scores, table, budget = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solver, "FRONTIER", 3)
        found = solver.solve(scores, table, budget)
    exact = least_loss(scores, table, budget)
    assert found.cost <= budget * (1 + 1e-9) + 1e-12
    assert found.bound - 1e-9 <= exact <= found.loss + 1e-9


def test_the_gap_is_small_where_not_all_can_be_looked_at():
    """Twelve layers of 12 heads and 3,072 neurons on 48 counts, with scores as skewed as real ones."""
    generator = torch.Generator().manual_seed(0)
    scores = UnitScores(
        [torch.rand(12, generator=generator).pow(3) for _ in range(12)],
        [torch.rand(3072, generator=generator).pow(8) / 50 for _ in range(12)],
    )
    counts = tuple(range(64, 3073, 64))
    heads = Curve(tuple(range(1, 13)), tuple(0.2 + 0.11 * count for count in range(1, 13)))
    neurons = Curve(counts, tuple(0.3 + 0.00123 * count for count in counts))
    table = Table("ms", 1.0, (heads,) * 12, (neurons,) * 12)
    whole = table.of(Structure(heads=[list(range(12))] * 12, neurons=[list(range(3072))] * 12))
    for share in (0.75, 0.5, 0.35):
        found = solver.solve(scores, table, share * whole)
        assert found.cost <= share * whole * (1 + 1e-9)
        assert found.loss - found.bound < 0.002 * found.loss


def test_a_target_that_is_fast_at_multiples_of_eight_alone_gets_them():
    """Every other width costs as much as the next multiple, and a little more."""
    scores = UnitScores([torch.ones(2)] * 2, [torch.linspace(1, 2, 32), torch.linspace(1, 3, 32)])
    neurons = Curve(tuple(range(33)), tuple(-(-count // 8) + 0.1 * (count % 8 > 0) for count in range(33)))
    table = Table("ms", 0.0, (Curve((1, 2), (0.1, 0.2)),) * 2, (neurons,) * 2)
    for budget in (3.5, 5.0, 6.2):
        kept = solver.solve(scores, table, budget).structure.neuron_counts
        assert all(count % 8 == 0 for count in kept), kept
        assert sum(kept) == 8 * int(budget - 0.2)


def test_what_is_gone_stays_gone_and_costs_nothing_to_leave_out():
    gone = -torch.inf
    scores = UnitScores([torch.tensor([3.0, gone, 1.0])], [torch.tensor([gone, 5.0, gone, 4.0])])
    table = Table("ms", 0.0, (Curve((1, 2, 3), (1.0, 2.0, 3.0)),), (Curve((0, 1, 2, 3, 4), (0.0, 1.0, 2.0, 3.0, 4.0)),))
    assert solver.solve(scores, table, 100.0).structure == Structure(heads=[[0, 2]], neurons=[[1, 3]])
    assert solver.solve(scores, table, 3.0).structure == Structure(heads=[[0]], neurons=[[1, 3]])


def test_of_equal_scores_the_later_unit_goes_first():
    scores = UnitScores([torch.ones(4)], [torch.ones(4)])
    table = Table("ms", 0.0, (Curve((1, 2, 3, 4), (1.0, 2.0, 3.0, 4.0)),), (Curve((2, 4), (1.0, 2.0)),))
    assert solver.solve(scores, table, 4.0).structure == Structure(heads=[[0, 1]], neurons=[[0, 1, 2, 3]])


def test_a_budget_out_of_reach_says_what_is_possible():
    table = Table("ms", 1.25, (Curve((1, 2), (1.0, 2.0)),), (Curve((0, 1), (0.5, 1.0)),))
    scores = UnitScores([torch.ones(2)], [torch.ones(1)])
    assert solver.solve(scores, table, 2.75).cost == 2.75
    with pytest.raises(OverBudgetError, match=r"at least 2\.75 ms are needed"):
        solver.solve(scores, table, 2.74)
