"""Modules in a Python process of their own, which imports from where this one does, never from the current folder."""

import os
import sys
from pathlib import Path


def command(module: str, *arguments: object) -> list[str]:
    """`python -m module arguments`, to be started in `surroundings()`."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def surroundings() -> dict[str, str]:
    """Environment variables with which Python finds what it finds here.

    `python -m` would look for every module in the current folder first, where a numpy.py may lie that nobody asked
    for; an empty entry of sys.path, as an interactive Python has it, means that folder, too.
    """
    package = str(Path(__file__).resolve().parents[1])
    places = dict.fromkeys(place for place in (*sys.path, package) if Path(place).is_absolute())
    return {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(filter(_one, places))}


def _one(place: str) -> bool:
    """Whether PYTHONPATH can hold `place`: it has no way to write a folder with a colon in its name."""
    return os.pathsep not in place
