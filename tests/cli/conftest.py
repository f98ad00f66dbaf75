"""What the tests of the commands share."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .shell import Shell


@pytest.fixture
def shell(capsys) -> Shell:
    return Shell(capsys)


@pytest.fixture
def copy(tmp_path) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / f"copy of {folder.name}"))

    return make


@pytest.fixture
def small(bert, data, tmp_path) -> list[object]:
    """A whole finetune command; a test adds what is wrong with it."""
    return ["finetune", "--model", bert, "--data", data, "--output", tmp_path / "out", "--epochs", 1]
