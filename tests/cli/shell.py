"""A shell in this process, and what a refusal looks like in it."""

from importlib import metadata

import pytest
from dsee_compress_cli import main as cli


class Shell:
    """Runs commands in this process and remembers what they printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str]:
        code = cli._run([str(argument) for argument in arguments], debug=False)
        return code, self._capsys.readouterr().err


def changed(arguments: list[object], option: str, value: object) -> list[object]:
    position = arguments.index(option)
    return [*arguments[: position + 1], value, *arguments[position + 2 :]]


def refused(result: tuple[int, str], sentence: str) -> None:
    code, printed = result
    assert code == 2, printed
    assert "Traceback" not in printed
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert errors == printed.splitlines()[-1:], "one sentence, and the last"
    assert sentence in errors[0]


def by_line(of_4, of_5):
    """A sentence that transformers 5 finds first, and says in its own words."""
    return of_5 if metadata.version("transformers").startswith("5") else of_4
