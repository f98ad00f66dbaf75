"""Progress on stderr, so that stdout carries results alone.

On a terminal, a spinner and a bar; elsewhere, in a log file say, a line every half minute.
"""

import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator
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
PULSE = 30.0
"""Seconds between two lines of progress where there is no terminal."""


def tell(line: str) -> None:
    """Print a line in one piece and one colour, whatever names of the user's stand in it."""
    console.print(line, highlight=False, soft_wrap=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Show `text` while the block runs, and leave it behind with the time it took when it ends well."""
    shown = plain(text)
    started = time.monotonic()
    with console.status(Text(shown)), pulse(lambda: f"{text}: {duration(time.monotonic() - started)} so far"):
        yield
    seconds = time.monotonic() - started
    took = f" ({duration(seconds)})" if seconds >= 1 else ""
    console.print(Text.assemble(("✓", "green"), f" {shown}{took}"))


@contextmanager
def pulse(line: Callable[[], str]) -> Iterator[None]:
    """While the block runs, print `line()` every PULSE seconds; nothing on a terminal, where other things move."""
    if console.is_terminal:
        yield
        return
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(PULSE):
            tell(f"… {line()}")

    teller = threading.Thread(target=repeat, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def duration(seconds: float) -> str:
    """A time as people read it: 7 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def without_bars() -> Iterator[None]:
    """Without the bars that transformers 5 shows of loading weights, and transformers 4 of loading parts."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


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
