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
