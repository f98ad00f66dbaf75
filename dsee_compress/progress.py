"""Progress on stderr, so that stdout carries results alone."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape

from . import distributed

console = Console(stderr=True, quiet=not distributed.is_main())
PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
"""How a line with names of the user's is printed: as it is."""


@contextmanager
def step(text: str) -> Iterator[None]:
    """Show `text` with a spinner while the block runs, and leave it behind when it ends well."""
    shown = escape(text)
    with console.status(shown):
        yield
    console.print(f"[green]✓[/] {shown}")


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Without the warnings, and what these loggers say below an error, of libraries that talk of their insides."""
    found = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in found]
    for logger in found:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(found, levels, strict=True):
            logger.setLevel(level)
