from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsee_compress.adapters.decomposition import DECOMPOSITIONS, grebsmo, support
from dsee_compress.configs import Decomposition

shapes = st.tuples(st.integers(2, 24), st.integers(2, 24))


def _weight(shape: tuple[int, int], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(shapes, st.integers(1, 12), st.integers(0, 5))
def test_parts_have_the_promised_form(shape, rank, seed):
    weight = _weight(shape, seed)
    left, right, sparse = grebsmo(weight, rank)
    rank = min(rank, *shape)
    assert left.shape == (shape[0], rank) and right.shape == (rank, shape[1]) and sparse.shape == weight.shape
    torch.testing.assert_close(left.T @ left, torch.eye(rank), atol=1e-4, rtol=0)


def test_what_is_left_shrinks_as_the_rank_grows_and_comes_near_the_best():
    weight = _weight((60, 40), 0)
    errors = []
    for rank in (4, 8, 16, 32, 40):
        left, right, sparse = grebsmo(weight, rank, threshold=1e6)
        assert not sparse.any()
        error = torch.linalg.norm(weight - left @ right)
        best = torch.linalg.svdvals(weight.double())[rank:].norm()
        assert error >= best - 1e-4
        assert error <= 1.15 * best + 1e-4
        errors.append(float(error))
    assert errors == sorted(errors, reverse=True)


def planted(seed: int) -> tuple[torch.Tensor, set[int]]:
    """A matrix of rank 3 with ten large single entries, and where these are."""
    generator = torch.Generator().manual_seed(seed)
    low_rank = torch.randn(30, 3, generator=generator) @ torch.randn(3, 20, generator=generator)
    places = torch.randperm(600, generator=generator)[:10]
    spikes = torch.zeros(600)
    spikes[places] = 40.0 * (torch.randint(0, 2, (10,), generator=generator) * 2 - 1)
    return low_rank + spikes.view(30, 20), set(places.tolist())


@given(st.integers(0, 20))
def test_planted_spikes_are_the_support(seed):
    weight, places = planted(seed)
    rows, columns = support(weight, rank=3, count=10)
    assert set((rows * 20 + columns).tolist()) == places


def test_the_registry_is_what_the_option_offers():
    assert set(DECOMPOSITIONS) == set(get_args(Decomposition))


@pytest.mark.parametrize("decomposition", DECOMPOSITIONS)
@given(shapes, st.integers(0, 4), st.data())
def test_support_has_its_size_no_position_twice_and_is_the_same_again(decomposition, shape, rank, data):
    count = data.draw(st.one_of(st.just(0), st.just(shape[0] * shape[1]), st.integers(0, shape[0] * shape[1])))
    weight = _weight(shape, 1)
    rows, columns = support(weight, rank, count, decomposition=decomposition)
    assert len({*zip(rows.tolist(), columns.tolist(), strict=True)}) == count == len(rows)
    assert all(0 <= row < shape[0] for row in rows) and all(0 <= column < shape[1] for column in columns)
    again = support(weight, rank, count, decomposition=decomposition)
    assert torch.equal(rows, again[0]) and torch.equal(columns, again[1])


def test_svd_takes_the_largest_entries_that_the_best_approximation_leaves():
    weight = _weight((12, 9), 3)
    rows, columns = support(weight, rank=4, count=7, decomposition="svd")
    u, s, v = np.linalg.svd(weight.double().numpy(), full_matrices=False)
    rest = np.abs(weight.double().numpy() - u[:, :4] @ np.diag(s[:4]) @ v[:4])
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == {
        tuple(divmod(int(flat), 9)) for flat in np.argsort(rest, axis=None)[-7:]
    }


def test_magnitude_takes_the_largest_entries():
    rows, columns = support(torch.tensor([[1.0, -5.0, 2.0], [4.0, 0.0, -3.0]]), 1, 3, decomposition="magnitude")
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 1), (1, 0), (1, 2)]


@pytest.mark.parametrize("decomposition", ["grebsmo", "random"])
def test_the_seed_decides(decomposition):
    weight = _weight((20, 30), 0)
    one, same, other = (support(weight, 3, 20, decomposition=decomposition, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert decomposition != "random" or not torch.equal(one, other)


@pytest.mark.parametrize("decomposition", ["grebsmo", "magnitude", "svd"])
def test_ties_give_a_support_of_the_asked_size(decomposition):
    rows, columns = support(torch.ones(6, 6), rank=0, count=7, decomposition=decomposition)
    assert (rows * 6 + columns).tolist() == list(range(7))


def test_more_than_all_entries_is_refused():
    with pytest.raises(ValueError, match="6 entries has no support of 7"):
        support(torch.ones(2, 3), 1, 7)
