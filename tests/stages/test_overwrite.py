"""`--overwrite` replaces what the stage wrote, where it lies, and nothing else."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

import dsee_compress
from dsee_compress.errors import UserError
from dsee_compress.store import folders, lineage, lock
from dsee_compress.store.manifest import Manifest

OPERATIONS = {"os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.mkdir"}


def overwrite(output, last):
    """Overwrite a folder in a process that kills itself at its file operation number `last`; whether it ended well."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    calls = []

    def deadly(event, arguments):
        if event in OPERATIONS:
            calls.append(event)
            if len(calls) == last:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(deadly)
        with lock.held(output), folders.writing(output, overwrite=True) as folder:
            (folder / "new").write_text("new")
            (folder / "dsee.json").write_text('{"files": ["new"]}')
        os._exit(0)
    finally:
        os._exit(1)


def write_old(folder):
    folder.mkdir()
    (folder / "old").write_text("old")
    (folder / "validation.json").write_text("{}")
    (folder / "dsee.json").write_text(json.dumps({"files": ["old"]}))
    (folder / "notes.txt").write_text("mine")
    (folder / "pruned").mkdir()
    (folder / "pruned" / "model").write_text("another stage's")
    (folder / ".hidden").write_text("mine")
    (folder / "link").symlink_to(Path(__file__))
    return folder


USERS = {"notes.txt": "mine", "pruned/model": "another stage's", ".hidden": "mine", "link": Path(__file__).read_text()}


def files(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_what_the_user_put_into_a_folder_stays(tmp_path):
    output = write_old(tmp_path / "made")
    with folders.writing(output, overwrite=True) as folder:
        (folder / "new").write_text("new")
        (folder / "dsee.json").write_text('{"files": ["new"]}')
    assert files(output) == {"new": "new", "dsee.json": '{"files": ["new"]}', **USERS}
    assert (output / "link").is_symlink()
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_killed_at_any_point_nothing_is_lost_and_the_next_run_ends_it(tmp_path):
    whole = {"new": "new", "dsee.json": '{"files": ["new"]}', **USERS}
    before = files(write_old(tmp_path / "before"))
    last = 0
    while True:
        last += 1
        root = tmp_path / str(last)
        root.mkdir()
        output = write_old(root / "made")
        ended = overwrite(output, last)
        if output.exists():
            there = files(output)
            assert there == before or there.items() <= whole.items(), last
        aside = root / ".made.replaced"
        kept = {**files(output), **(files(aside) if aside.exists() else {})}
        assert USERS.items() <= kept.items(), last
        assert overwrite(output, 0), last
        assert files(output) == whole, last
        assert [path.name for path in root.iterdir()] == ["made"], last
        if ended:
            break
    assert last > 6


def test_stopped_between_the_two_renames_the_old_folder_is_put_back(tmp_path, monkeypatch):
    output = write_old(tmp_path / "made")
    before = files(output)

    def stop(self, target):
        original(self, target)
        if target.name == ".made.replaced":
            raise KeyboardInterrupt

    original = Path.rename
    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(KeyboardInterrupt), folders.writing(output, overwrite=True) as folder:
        (folder / "new").write_text("new")
    assert files(output) == before
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_folder_of_before_the_list_is_replaced_by_known_names(tmp_path):
    output = tmp_path / "made"
    output.mkdir()
    for name in ("dsee.json", "model.onnx", "model_int8.onnx", "tokenizer.json", "report.html", "notes.txt"):
        (output / name).write_text("{}")
    with folders.writing(output, overwrite=True) as folder:
        (folder / "model.onnx").write_text("new")
    assert {path.name for path in output.iterdir()} == {"model.onnx", "notes.txt"}


def test_a_users_file_in_the_way_of_the_stages_is_not_replaced(tmp_path):
    output = write_old(tmp_path / "made")
    before = files(output)
    with (
        pytest.raises(UserError, match=r"notes\.txt was not written by the stage"),
        folders.writing(output, overwrite=True) as folder,
    ):
        (folder / "notes.txt").write_text("new")
    assert files(output) == before
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_link_stays_and_what_it_leads_to_is_replaced(bert_tuned, tmp_path):
    place, link = tmp_path / "disk" / "adapter", tmp_path / "latest"
    shutil.copytree(bert_tuned, place)
    link.symlink_to(place)
    dsee_compress.prune(bert_tuned, output=tmp_path / "pruned", retune_epochs=0)
    (tmp_path / "linked").symlink_to(tmp_path / "pruned")
    for heads in (0.5, 0.25):
        dsee_compress.prune(link, output=tmp_path / "linked", overwrite=True, retune_epochs=0, heads=heads)
        assert (tmp_path / "linked").is_symlink()
        assert Manifest.read(tmp_path / "pruned").config["heads"] == heads
    assert {path.name for path in tmp_path.iterdir()} == {"disk", "latest", "pruned", "linked"}


def test_a_users_file_is_no_part_of_a_stages_fingerprint(bert_tuned, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(bert_tuned, copy)
    before = lineage.fingerprint(copy)
    (copy / "notes.txt").write_text("mine")
    assert lineage.fingerprint(copy) == before
    (copy / "tokenizer.json").unlink()
    assert lineage.fingerprint(copy) != before
