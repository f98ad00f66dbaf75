"""Progress on stderr, so that stdout carries results alone."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

console = Console(stderr=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Show `text` with a spinner while the block runs, and leave it behind when it ends well."""
    with console.status(text):
        yield
    console.print(f"[green]✓[/] {text}")
