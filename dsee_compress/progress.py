"""Progress on stderr, so that stdout carries results alone."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from . import distributed

console = Console(stderr=True, quiet=not distributed.is_main())


@contextmanager
def step(text: str) -> Iterator[None]:
    """Show `text` with a spinner while the block runs, and leave it behind when it ends well."""
    shown = escape(text)
    with console.status(shown):
        yield
    console.print(f"[green]✓[/] {shown}")
