"""Two writers of one folder: the second is refused at once, and a lock dies with its process."""

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

import dsee_compress
from dsee_compress import models
from dsee_compress.errors import UserError
from dsee_compress.store import lock

HOLDER = """
import sys, time
from pathlib import Path
from dsee_compress.store import lock
with lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of `made` until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "made"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def spellings(folder):
    (folder / "link").symlink_to(folder / "made")
    return [folder / "made", folder / "link", folder / "other" / ".." / "made", f"{folder}/made/", "made"]


def test_the_second_writer_is_refused_by_whatever_name_it_uses(holder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in spellings(tmp_path):
        with pytest.raises(UserError, match=r"is writing to .*; wait until it has ended") as refused:
            dsee_compress.export(tmp_path / "nowhere", output=name)
        assert str(refused.value).startswith(f"process {holder.pid} on {socket.gethostname()} is")
    assert {path.name for path in tmp_path.iterdir()} == {".made.lock", "link"}


def test_results_are_written_by_one_at_a_time(holder, tmp_path):
    for stage in (dsee_compress.validate, dsee_compress.benchmark, dsee_compress.report):
        with pytest.raises(UserError, match="is writing to"):
            stage(tmp_path / "made")


def test_a_lock_ends_with_its_process_however_that_ends(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert [path.name for path in tmp_path.iterdir()] == [".made.lock"], "the file is left, the lock is not"
    with lock.held(tmp_path / "made"):
        assert (tmp_path / ".made.lock").read_text().split()[0] == str(os.getpid())
    assert not list(tmp_path.iterdir())


def test_a_stage_may_call_another_on_the_same_folder_and_another_thread_may_not(tmp_path):
    refused = []

    def other():
        with pytest.raises(UserError), lock.held(tmp_path / "made"):
            pass
        refused.append(True)

    with lock.held(tmp_path / "made"), lock.held(tmp_path / "made"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert (tmp_path / ".made.lock").exists()
    assert refused and not list(tmp_path.iterdir())


def test_a_lock_that_was_removed_while_it_was_waited_for_is_none(tmp_path, monkeypatch):
    """Between open and flock the holder ended, and a third process has a file of the same name."""
    import fcntl

    once = []

    def late(descriptor, operation):
        if not once:
            once.append(descriptor)
            (tmp_path / ".made.lock").unlink()
            (tmp_path / ".made.lock").write_text("1 elsewhere")
        return original(descriptor, operation)

    original = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", late)
    with lock.held(tmp_path / "made"):
        assert (tmp_path / ".made.lock").read_text().split()[0] == str(os.getpid())
    assert not list(tmp_path.iterdir())


def test_a_stage_that_fails_leaves_neither_lock_nor_folders(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        dsee_compress.export(tmp_path / "nowhere", output=tmp_path / "deep" / "er" / "out")
    assert not list(tmp_path.iterdir())


def test_without_locks_the_user_is_told(tmp_path, monkeypatch, capsys):
    import errno
    import fcntl

    def unknown(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with lock.held(tmp_path / "made"):
        pass
    assert "cannot be locked" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(lock.os, "open", refuse)
    with pytest.raises(UserError, match="does not let this user make files"), lock.held(tmp_path / "made"):
        pass


def test_a_link_in_a_circle(tmp_path):
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    with pytest.raises(UserError, match="leads in a circle"):
        dsee_compress.export(tmp_path / "nowhere", output=tmp_path / "one")


def test_what_is_read_must_stay(bert_tuned, tmp_path, monkeypatch):
    """The adapter is replaced by another while it is loaded: no folder of the one that names the other."""
    import shutil

    from dsee_compress.adapters import model as adapters

    source = tmp_path / "source"
    shutil.copytree(bert_tuned, source)
    shutil.copytree(bert_tuned, tmp_path / "other")

    def load(folder):
        source.rename(tmp_path / "old")
        (tmp_path / "other").rename(source)
        return original(folder)

    original = adapters.load
    monkeypatch.setattr(adapters, "load", load)
    with pytest.raises(UserError, match="source was replaced or changed while it was being read"):
        dsee_compress.prune(source, output=tmp_path / "out", retune_epochs=0)
    assert {path.name for path in tmp_path.iterdir()} == {"source", "old"}


def test_an_error_of_a_folder_that_was_replaced_says_so(bert_tuned, tmp_path, monkeypatch):
    import shutil

    source = tmp_path / "source"
    shutil.copytree(bert_tuned, source)

    def config(folder):
        (source / "config.json").unlink()
        return original(folder)

    original = models.config_of
    monkeypatch.setattr(models, "config_of", config)
    with pytest.raises(UserError, match="was replaced or changed"):
        dsee_compress.prune(source, output=tmp_path / "out")
