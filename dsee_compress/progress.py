"""Progress on stderr, so that stdout carries results alone."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.text import Text

from . import distributed
from .plain import plain


class TextConsole(Console):
    """A console to which every str is text: no markup, no emoji by name, and no control characters.

    What is coloured is a `Text`, made of plain strings.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """As Console's, which calls it for each str that it shows, in tables, too."""
        return super().render_str(plain(text), **{**options, "markup": False, "emoji": False})


console = TextConsole(stderr=True, quiet=not distributed.is_main())


@contextmanager
def step(text: str) -> Iterator[None]:
    """Show `text` with a spinner while the block runs, and leave it behind when it ends well."""
    shown = plain(text)
    with console.status(Text(shown)):
        yield
    console.print(Text.assemble(("✓", "green"), f" {shown}"))


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
