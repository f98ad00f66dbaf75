import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from dsee_compress.adapters.layer import DseeLinear

MASKS = ("none", "rows", "columns", "entries")


def make(
    d_out: int,
    d_in: int,
    rank: int,
    count: int,
    *,
    alpha: float = 5.0,
    mask: str = "none",
    bias: bool = True,
    gain: int = 0,
    seed: int = 0,
) -> DseeLinear:
    """A float64 layer whose U, V, S2, W and S1 are all random."""
    generator = torch.Generator().manual_seed(seed)
    linear = nn.Linear(d_in, d_out, bias=bias)
    flat = torch.randperm(d_out * d_in, generator=generator)[:count]
    layer = DseeLinear(linear, rank, alpha, flat // d_in, flat % d_in, generator).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, generator=generator)
    shape = {"rows": (d_out, 1), "columns": (1, d_in), "entries": (d_out, d_in)}
    if gain:
        layer.gain = nn.Parameter(torch.randn(gain, generator=generator, dtype=torch.float64))
    if mask != "none":
        layer.mask = torch.randint(0, 2, shape[mask], generator=generator).double()
    return layer


def naive(layer: DseeLinear, alpha: float) -> torch.Tensor:
    """S1 ⊙ (W + (alpha / r) (U V + S2)), written out densely from the paper's formula."""
    sparse = torch.zeros_like(layer.weight)
    for row, column, value in zip(layer.rows, layer.columns, layer.values, strict=True):
        sparse = sparse + value * torch.outer(
            nn.functional.one_hot(row, sparse.shape[0]), nn.functional.one_hot(column, sparse.shape[1])
        )
    effective = layer.weight + alpha / max(layer.up.shape[1], 1) * (layer.up @ layer.down + sparse)
    if layer.gain is not None:
        width = effective.shape[1] // len(layer.gain)
        effective = torch.stack([column * layer.gain[index // width] for index, column in enumerate(effective.T)]).T
    return effective if layer.mask is None else effective * layer.mask


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 9), st.data(), st.sampled_from(MASKS), st.booleans())
def test_forward_and_gradients_equal_the_dense_formula(d_out, d_in, rank, data, mask, bias):
    rank = min(rank, d_out, d_in)
    layer = make(d_out, d_in, rank, data.draw(st.integers(0, d_out * d_in)), mask=mask, bias=bias)
    x = torch.randn(2, 3, d_in, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(2, 3, d_out, dtype=torch.float64)
    trained = [layer.up, layer.down, layer.values]
    ours = layer(x)
    ours_grads = torch.autograd.grad((ours * upstream).sum(), [x, *trained], allow_unused=True)
    dense = nn.functional.linear(x, naive(layer, 5.0), layer.bias)
    dense_grads = torch.autograd.grad((dense * upstream).sum(), [x, *trained], allow_unused=True)
    torch.testing.assert_close(ours, dense)
    for ours_grad, dense_grad in zip(ours_grads, dense_grads, strict=True):
        expected = torch.zeros_like(ours_grad) if dense_grad is None else dense_grad
        torch.testing.assert_close(ours_grad, expected)


def test_gradcheck_on_a_single_vector():
    layer = make(4, 5, 2, 3)
    layer.bias.requires_grad_(False)
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))


def test_scale_covers_low_rank_and_sparse_in_update_forward_and_merge():
    """Published code scales U V alone in some of these places."""
    layer = make(6, 4, 2, 5, alpha=8.0)
    expected = layer.weight + 4.0 * (layer.up @ layer.down)
    expected = expected.index_put((layer.rows, layer.columns), 4.0 * layer.values, accumulate=True)
    torch.testing.assert_close(layer.effective_weight(), expected)
    torch.testing.assert_close(layer.update(), expected - layer.weight)
    torch.testing.assert_close(layer.merged().weight, expected)
    torch.testing.assert_close(layer(torch.eye(4, dtype=torch.float64)), expected.T + layer.bias)


def test_a_new_layer_changes_nothing():
    linear = nn.Linear(7, 5)
    layer = DseeLinear(linear, 3, 6.0, torch.tensor([1, 2]), torch.tensor([0, 6]), torch.Generator().manual_seed(0))
    x = torch.randn(4, 7)
    assert torch.equal(layer(x), linear(x))
    assert layer.down.abs().min() > 0, "V starts random, or U would never learn"


class Written(TorchDispatchMode):
    """Notes every tensor that an operator gives back."""

    def __init__(self):
        super().__init__()
        self.tensors = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.tensors += [result] if isinstance(result, torch.Tensor) else []
        return result


def test_only_n_values_and_two_factors_are_trained_and_no_matrix_of_the_weights_size_is_formed_in_a_step():
    """S2 as a masked dense matrix costs a second full product, and a gradient of the weight's size."""
    layer = make(16, 12, 2, 5)
    layer.weight.requires_grad_(False)
    layer.bias.requires_grad_(False)
    assert sum(p.numel() for p in layer.parameters() if p.requires_grad) == 16 * 2 + 2 * 12 + 5
    x = torch.randn(3, 12, dtype=torch.float64, requires_grad=True)
    with Written() as written:
        layer(x).sum().backward()
    large = [tensor for tensor in written.tensors if tensor.numel() == 16 * 12]
    assert all(tensor.data_ptr() == layer.weight.data_ptr() for tensor in large)
    assert any(tensor.numel() == 16 * 3 for tensor in written.tensors), "nothing was noted"


def test_a_weight_that_is_not_finite_is_not_merged():
    layer = make(3, 3, 1, 2)
    with torch.no_grad():
        layer.values[0] = float("inf")
    with pytest.raises(ValueError, match="not finite"):
        layer.merged()


def test_rank_beyond_the_matrix_is_refused():
    with pytest.raises(ValueError, match="rank 5"):
        make(4, 9, 5, 0)


@pytest.mark.parametrize("mask", MASKS)
def test_bfloat16_autocast_stays_near_fp32_and_gradients_stay_fp32(mask):
    layer = make(8, 6, 2, 4, mask=mask).float()
    x = torch.randn(5, 6, requires_grad=True)
    exact = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = layer(x)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, atol=0.3, rtol=0.05)
    rounded.sum().backward()
    assert layer.up.grad.dtype == layer.values.grad.dtype == torch.float32


@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 4), st.integers(0, 3), st.sampled_from(MASKS))
def test_a_gain_scales_the_columns_of_its_unit_in_forward_gradient_and_merge(d_out, width, units, rank, mask):
    d_in = width * units
    rank = min(rank, d_out, d_in)
    layer = make(d_out, d_in, rank, 2 if d_out * d_in > 1 else 0, mask=mask, gain=units)
    x = torch.randn(4, d_in, dtype=torch.float64, requires_grad=True)
    trained = [x, layer.gain, layer.up, layer.down, layer.values]
    ours, dense = layer(x), nn.functional.linear(x, naive(layer, 5.0), layer.bias)
    torch.testing.assert_close(ours, dense)
    torch.testing.assert_close(layer.merged().weight.detach(), naive(layer, 5.0).detach())
    upstream = torch.randn_like(ours)
    wanted = torch.autograd.grad((dense * upstream).sum(), trained, allow_unused=True)
    for found, expected in zip(torch.autograd.grad((ours * upstream).sum(), trained), wanted, strict=True):
        torch.testing.assert_close(found, torch.zeros_like(found) if expected is None else expected)
    layer.fold_gain()
    assert layer.gain is None
    torch.testing.assert_close(layer(x), ours)


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 3), st.data(), st.sampled_from([0, 1]))
def test_a_cut_layer_is_the_same_rows_or_columns_of_the_effective_weight(d_out, d_in, rank, data, axis):
    rank = min(rank, d_out, d_in)
    layer = make(d_out, d_in, rank, data.draw(st.integers(0, d_out * d_in)))
    size = (d_out, d_in)[axis]
    kept = torch.tensor(sorted(data.draw(st.sets(st.integers(0, size - 1), min_size=1))))
    before = layer.effective_weight().detach().clone()
    cut = layer.select(kept, axis)
    torch.testing.assert_close(cut.effective_weight(), before.index_select(axis, kept))
    torch.testing.assert_close(cut.bias, layer.bias[kept] if axis == 0 else layer.bias)
    assert all(parameter.requires_grad for parameter in cut.trained())
    x = torch.randn(3, len(kept) if axis else d_in, dtype=torch.float64)
    torch.testing.assert_close(cut(x), nn.functional.linear(x, before.index_select(axis, kept), cut.bias))
    torch.testing.assert_close(layer.effective_weight().detach(), before, msg="the layer that was cut stays whole")
