"""What a structure costs: one protocol, and a module for each answer."""

from typing import Protocol

from ..store.structure import Structure


class Cost(Protocol):
    """Of one model whose parts may be removed, in one unit."""

    @property
    def unit(self) -> str:
        """What a figure counts: "FLOPs", say."""
        ...

    def of(self, structure: Structure) -> float:
        """What the model costs when it keeps `structure` alone."""
        ...
