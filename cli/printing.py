"""What the commands print on stdout."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

out = Console()


def wrote(folder: Path) -> None:
    """The last line of every command that writes."""
    print(f"wrote {folder}")


def facts(title: str, rows: dict[str, Any]) -> None:
    """A table of two columns."""
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in rows.items():
        table.add_row(name, str(value))
    out.print(table)


def listing(title: str, header: list[str], rows: list[list[str]]) -> None:
    """A table with a header; figures to the right."""
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*row)
    out.print(table)
