"""What the commands print on stdout."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

out = Console(markup=False)


def wrote(folder: Path) -> None:
    """The last line of every command that writes."""
    print(f"wrote {folder}")


def facts(title: str, rows: dict[str, Any]) -> None:
    """A table of two columns."""
    table = Table(title=title, title_justify="left", show_header=False)
    for _ in range(2):
        table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, f"{value:.6g}" if isinstance(value, float) else str(value))
    out.print(table)


def listing(title: str, header: list[str], rows: list[list[str]], figures: bool = True) -> None:
    """A table with a header; `figures` stand to the right, words to the left."""
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if figures and index else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table)
