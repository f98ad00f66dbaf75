import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsee_compress.pruning import allocation

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

    share = allocation.share_for(saved, target)
    assert saved(share) >= target
    assert share < 1e-9 or saved(share - 1e-9) < target


def test_more_than_can_be_saved_is_refused_with_what_can():
    with pytest.raises(ValueError, match=r"at most 80.0% can be saved"):
        allocation.share_for(lambda share: 0.8 * share, 0.9)


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
