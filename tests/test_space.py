"""A full disk is told in one sentence, whatever the library that met it says; /dev/full is one that always is."""

import os
import tempfile
from pathlib import Path

import pytest
import torch

from dsee_compress.errors import GateError, UserError
from dsee_compress.store import folders, space

FULL = Path("/dev/full")


def by_torch(path):
    torch.save({"a": torch.zeros(10_000)}, path)


def by_python(path):
    path.write_text("x" * 10_000)


@pytest.mark.parametrize("write", [by_torch, by_python])
def test_what_libraries_say(tmp_path, monkeypatch, write):
    """torch.save says only that a write failed; then a file that is tried tells why."""
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **place: FULL.open("wb"))
    with (
        pytest.raises(UserError, match=f"no space left in {tmp_path}; free some, and run the command again"),
        folders.writing(tmp_path / "made", overwrite=False) as folder,
    ):
        (folder / "file").symlink_to(FULL)
        write(folder / "file")
    assert not list(tmp_path.iterdir())


def test_other_errors_are_what_they_were_where_there_is_room(tmp_path):
    for error in (RuntimeError("write failed"), OSError(2, "No such file"), UserError("wrong"), GateError("unequal")):
        with pytest.raises(type(error)) as raised, space.told(tmp_path / "made"):
            raise error
        assert raised.value is error


def test_a_result_that_could_not_be_written_leaves_nothing(tmp_path):
    path = tmp_path / "result.json"
    folders.write_json(path, {"a": 1})
    (tmp_path / ".result.json.partial").symlink_to(FULL)
    with pytest.raises(OSError) as raised:
        folders.write_json(path, {"a": 2})
    assert space.is_of_a_full_disk(raised.value)
    assert path.read_text() == '{\n "a": 1\n}\n'
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_an_error_of_fsync_leaves_no_folder(tmp_path, monkeypatch):
    """As of a network disk, which finds out late that it is full."""

    def late(descriptor):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", late)
    with (
        pytest.raises(UserError, match="no space left in"),
        folders.writing(tmp_path / "made", overwrite=False) as folder,
    ):
        (folder / "file").write_text("x")
    assert not list(tmp_path.iterdir())
