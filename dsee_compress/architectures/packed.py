"""One matrix with the rows of several Linears taken apart, so that each place has a Linear of its own."""

import torch
from torch import Tensor, nn


def set_submodule(module: nn.Module, path: str, new: nn.Module) -> None:
    """Put `new` where `path` points in `module`."""
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, new)


class SideBySide(nn.Module):
    """Linears by their places, whose outputs stand side by side as those of one matrix do."""

    def __init__(self, parts: dict[str, nn.Linear]) -> None:
        super().__init__()
        for place, part in parts.items():
            self.add_module(place, part)

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., d). Returns (..., sum of the outputs' widths)."""
        return torch.cat([part(x) for part in self.children()], dim=-1)


def split(module: nn.Module, path: str, places: tuple[str, ...]) -> None:
    """Put a Linear a place, of as many rows each, where `path` points to a Linear with all of them in `module`."""
    parts = parts_of(module.get_submodule(path), len(places))
    set_submodule(module, path, SideBySide(dict(zip(places, parts, strict=True))))


def parts_of(whole: nn.Module, count: int) -> list[nn.Linear]:
    """So many Linears, each with as many of the rows of a Linear, in their order."""
    biases = whole.bias.chunk(count) if whole.bias is not None else [None] * count
    return [linear(*part) for part in zip(whole.weight.chunk(count), biases, strict=True)]


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A Linear that owns copies of `weight` (d_out, d_in) and `bias` (d_out)."""
    new = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    new.weight = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format))
    if bias is not None:
        new.bias = nn.Parameter(bias.detach().clone())
    return new
