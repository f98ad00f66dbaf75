"""A folder appears whole or not at all."""

import json

import pytest

from dsee_compress.store import folders


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    output = tmp_path / "made"
    with pytest.raises(RuntimeError, match="half way"), folders.writing(output, overwrite=False) as folder:
        (folder / "first").write_text("x")
        assert not output.exists()
        raise RuntimeError("half way")
    assert not list(tmp_path.iterdir())
    with folders.writing(output, overwrite=False) as folder:
        (folder / "first").write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_overwrite_replaces_and_a_failure_keeps_what_was_there(tmp_path):
    output = tmp_path / "made"
    for text in ("old", "new"):
        with folders.writing(output, overwrite=True) as folder:
            (folder / text).write_text(text)
            (folder / "dsee.json").write_text(json.dumps({"files": [text]}))
    assert {path.name for path in output.iterdir()} == {"new", "dsee.json"}
    with pytest.raises(RuntimeError), folders.writing(output, overwrite=True):
        raise RuntimeError
    assert {path.name for path in tmp_path.rglob("*")} == {"made", "new", "dsee.json"}


def test_what_a_kill_between_the_two_renames_left_is_put_back(tmp_path):
    """Killed after the old folder stepped aside and before the new one took its name: the old one is not lost."""
    aside = tmp_path / ".made.replaced"
    aside.mkdir()
    (aside / "old").write_text("old")
    with pytest.raises(RuntimeError), folders.writing(tmp_path / "made", overwrite=True):
        raise RuntimeError
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["old"]


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
    stale = tmp_path / ".made.partial"
    stale.mkdir()
    (stale / "half").write_text("x")
    with folders.writing(tmp_path / "made", overwrite=False) as folder:
        assert not list(folder.iterdir())
    assert not stale.exists()


def test_json_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "result.json"
    folders.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        folders.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]
