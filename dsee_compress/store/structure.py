"""What is left of a model, layer by layer."""

from typing import Self

from pydantic import model_validator

from ..strict import StrictConfig


class Structure(StrictConfig):
    """Indices of the heads and neurons that each layer keeps, counted in the unpruned model; they rise."""

    heads: list[list[int]]
    neurons: list[list[int]]

    @property
    def head_counts(self) -> list[int]:
        """Heads kept, a layer."""
        return [len(kept) for kept in self.heads]

    @property
    def neuron_counts(self) -> list[int]:
        """FFN neurons kept, a layer."""
        return [len(kept) for kept in self.neurons]

    @model_validator(mode="after")
    def _of_one_model(self) -> Self:
        if not self.heads or len(self.heads) != len(self.neurons):
            raise ValueError(f"{len(self.heads)} layers of heads and {len(self.neurons)} of neurons")
        for kept in [*self.heads, *self.neurons]:
            if kept != sorted({*kept}) or (kept and kept[0] < 0):
                raise ValueError(f"{kept} are no indices that rise")
        return self
