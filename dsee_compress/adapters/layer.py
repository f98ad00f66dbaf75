"""DseeLinear: a frozen Linear with the trained update (alpha / r) (U V + S2) under a mask S1."""

import copy
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable


class DseeLinear(nn.Module):
    """y = x (S1 ⊙ (W + (alpha / r) (U V + S2)))ᵀ + b (Chen et al., 2023, equation 2 and section 3.3).

    weight W: (d_out, d_in), frozen; bias b: (d_out) or None, frozen.
    up U: (d_out, r), zero at first; down V: (r, d_in), random at first.
    values: (N), the entries of S2, zero at first; `rows`, `columns`: (N), where they stand (Ω).
    mask S1: None, or of a shape that broadcasts to W: (d_out, 1) rows, (1, d_in) columns, (d_out, d_in) entries.
    gain: None, or (units), factors on the groups of d_in / units inputs that a head or a neuron feeds in (slimming).
    scale: alpha / r; with r = 0 it is alpha.
    """

    rows: Tensor
    columns: Tensor
    mask: Tensor | None
    gain: nn.Parameter | None

    def __init__(
        self,
        linear: nn.Linear,
        rank: int,
        alpha: float,
        rows: Tensor,
        columns: Tensor,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        d_out, d_in = linear.weight.shape
        if rank > min(d_out, d_in):
            raise ValueError(f"rank {rank} is more than a {d_out} by {d_in} matrix has")
        self.scale = alpha / max(rank, 1)
        self.weight = nn.Parameter(linear.weight.detach(), requires_grad=False)
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach(), requires_grad=False)
        down = torch.randn(rank, d_in, generator=generator) / d_in**0.5
        device = linear.weight.device
        self.up = nn.Parameter(torch.zeros(d_out, rank, device=device))
        self.down = nn.Parameter(down.to(device))
        self.values = nn.Parameter(torch.zeros(len(rows), device=device))
        self.register_buffer("rows", rows.clone().to(device))
        self.register_buffer("columns", columns.clone().to(device))
        self.register_buffer("mask", None)
        self.register_parameter("gain", None)

    @property
    def carries_update(self) -> bool:
        """Whether there is a U V or an S2 at all."""
        return self.up.numel() + self.values.numel() > 0

    def trained(self) -> list[nn.Parameter]:
        """U, V, S2 and the gain, as far as they have entries."""
        own = (self.up, self.down, self.values, self.gain)
        return [parameter for parameter in own if parameter is not None and parameter.numel()]

    def update(self) -> Tensor:
        """(alpha / r) (U V + S2) as a matrix, (d_out, d_in), without the mask."""
        low_rank = self.up @ self.down
        return low_rank.index_put((self.rows, self.columns), self.values, accumulate=True) * self.scale

    def effective_weight(self) -> Tensor:
        """S1 ⊙ (W + update), (d_out, d_in), its columns multiplied by the gain if there is one."""
        effective = self.weight + self.update()
        if self.mask is not None:
            effective = effective * self.mask
        return effective if self.gain is None else effective * self._column_gain()

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., d_in). Returns (..., d_out)."""
        bias, kind = self.bias, x.device.type
        if torch.is_autocast_enabled(kind):
            x = x.to(torch.get_autocast_dtype(kind))
            bias = None if bias is None else bias.to(x.dtype)
        with torch.autocast(kind, enabled=False):
            if self.mask is not None:
                return nn.functional.linear(x, self.effective_weight().to(x.dtype), bias)
            if self.gain is not None:
                x = x * self._column_gain().to(x.dtype)
            return _Factored.apply(
                x, self.weight, bias, self.up, self.down, self.values, self.rows, self.columns, self.scale
            )

    def merged(self) -> nn.Linear:
        """A plain, frozen Linear with the effective weight. Raises ValueError if that is not finite."""
        weight = self.effective_weight().detach()
        if not torch.isfinite(weight).all():
            raise ValueError("the merged weight is not finite")
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=self.bias is not None, device=weight.device)
        linear.weight = nn.Parameter(weight, requires_grad=False)
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.detach().clone(), requires_grad=False)
        return linear

    @torch.no_grad()
    def fold_gain(self) -> None:
        """Multiply the gain into W, V and S2, which leaves the function as it is, and end it."""
        if self.gain is not None:
            factor = self._column_gain()
            self.weight.mul_(factor)
            self.down.mul_(factor)
            self.values.mul_(factor[self.columns])
            self.gain = None

    @torch.no_grad()
    def select(self, kept: Tensor, axis: int) -> Self:
        """The layer with the outputs (axis 0) or inputs (axis 1) in `kept` alone, without a mask.

        kept: ascending indices, int64. Entries of S2 outside them are dropped.
        """
        kept = kept.to(self.weight.device)
        place = torch.full((self.weight.shape[axis],), -1, device=kept.device)
        place[kept] = torch.arange(len(kept), device=kept.device)
        moved = place[self.rows if axis == 0 else self.columns]
        stays = moved >= 0
        new = copy.copy(self)
        new._parameters, new._buffers = dict(self._parameters), dict(self._buffers)
        new.weight = nn.Parameter(self.weight.index_select(axis, kept), requires_grad=False)
        new.values = nn.Parameter(self.values[stays])
        new.rows, new.columns = self.rows[stays], self.columns[stays]
        if axis == 0:
            new.up, new.rows = nn.Parameter(self.up[kept]), moved[stays]
            if self.bias is not None:
                new.bias = nn.Parameter(self.bias[kept], requires_grad=False)
        else:
            new.down, new.columns = nn.Parameter(self.down[:, kept]), moved[stays]
        new.mask = None
        return new

    def _column_gain(self) -> Tensor:
        assert self.gain is not None
        return self.gain.repeat_interleave(self.weight.shape[1] // len(self.gain))

    def extra_repr(self) -> str:
        """Shape, rank, N and scale, as print shows them."""
        d_out, d_in = self.weight.shape
        return f"{d_in}, {d_out}, rank={self.up.shape[1]}, sparse={len(self.values)}, scale={self.scale:g}"


class _Factored(torch.autograd.Function):
    """x Wᵀ + b + (alpha / r) (x Vᵀ Uᵀ + x S2ᵀ), added up in one output; no matrix of W's size is formed or kept.

    What the update costs beside the frozen product is passes over x and the output, so the layout decides: a skinny
    product with r rows takes as little as a sixth of the time of one with r columns. Hence `low` is (r, tokens).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        up: Tensor,
        down: Tensor,
        values: Tensor,
        rows: Tensor,
        columns: Tensor,
        scale: float,
    ) -> Tensor:
        tokens = x.reshape(-1, x.shape[-1])
        low = down.to(x.dtype) @ tokens.T
        ctx.save_for_backward(x, weight, up, down, values, rows, columns, low)
        ctx.scale = scale
        y = nn.functional.linear(tokens, weight.to(x.dtype), bias)
        _add_update(y, low, up.T, tokens.index_select(1, columns), values, rows, scale)
        return y.view(*x.shape[:-1], len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, up, down, values, rows, columns, low = ctx.saved_tensors
        scale: float = ctx.scale
        tokens, grad_y = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
        grad_low = up.T.to(grad.dtype) @ grad_y.T
        grad_picked = grad_y.index_select(1, rows)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_tokens = grad_y @ weight.to(grad.dtype)
            _add_update(grad_tokens, grad_low, down, grad_picked, values, columns, scale)
            grad_x = grad_tokens.view_as(x)
        parts = ((low @ grad_y).T, grad_low @ tokens, (grad_picked * tokens.index_select(1, columns)).sum(0))
        return grad_x, None, None, *(scale * part.to(up.dtype) for part in parts), None, None, None


def _add_update(
    out: Tensor, low: Tensor, factor: Tensor, picked: Tensor, values: Tensor, places: Tensor, scale: float
) -> None:
    """out (tokens, d) += scale · (lowᵀ (tokens, r) · factor (r, d) + the N products at their places)."""
    out.addmm_(low.T, factor.to(out.dtype), alpha=scale)
    out.index_add_(1, places, picked * values.to(out.dtype), alpha=scale)
