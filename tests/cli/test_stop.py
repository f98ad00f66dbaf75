"""A stop ends the command wherever it arrives: also where Python or a library swallows what is raised."""

import contextlib
import os
import signal
import weakref

import pytest
from dsee_compress_cli import stopping

from dsee_compress.adapters import model as adapters
from dsee_compress.store import folders

from ..robustness.forked import Command


class Thing:
    pass


class Dying:
    def __del__(self):
        stop()


def stop():
    os.kill(os.getpid(), signal.SIGTERM)


def in_a_weak_references_callback():
    thing = Thing()
    kept = weakref.ref(thing, lambda reference: stop())
    del thing
    assert kept() is None


def in_a_destructor():
    Dying()


def where_it_is_dropped():
    with contextlib.suppress(BaseException):
        stop()


def where_it_becomes_another_error():
    try:
        stop()
    except BaseException:
        failed = True
    if failed:
        raise RuntimeError("a library failed")


def as_it_should():
    stop()


PLACES = [
    in_a_weak_references_callback,
    in_a_destructor,
    where_it_is_dropped,
    where_it_becomes_another_error,
    as_it_should,
]


@pytest.mark.parametrize("place", PLACES)
def test_a_stop_ends_a_stage(bert_tuned, tmp_path, monkeypatch, place):
    def load(folder):
        model = original(folder)
        place()
        return model

    original = adapters.load
    monkeypatch.setattr(adapters, "load", load)
    arguments = ["prune", str(bert_tuned), "--output", "out", "--retune-epochs", "20"]
    ended = Command(arguments, tmp_path, tmp_path / "log").wait()
    assert ended.code == 128 + signal.SIGTERM, ended.stderr
    assert "Traceback" not in ended.stderr and "ignored" not in ended.stderr
    assert "stopped; run the same command again" in ended.stderr.splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} <= {"log", ".out.checkpoints"}


def test_cleaning_up_is_not_stopped_again(tmp_path, monkeypatch):
    """A second Ctrl-C, and the timer, come while the partial folder is being removed."""

    def slowly(folder, **options):
        for _ in range(30):
            os.kill(os.getpid(), signal.SIGINT)
            signal.sigtimedwait([], 0.02)
        return original(folder, **options)

    def work():
        with folders.writing(tmp_path / "made", overwrite=False) as folder:
            (folder / "file").write_text("x")
            monkeypatch.setattr(folders.shutil, "rmtree", slowly)
            stop()

    original = folders.shutil.rmtree
    code = in_a_child(work)
    assert code == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())


def test_a_stop_before_the_command_ends_it_and_one_after_it_comes_too_late():
    def early():
        stop()
        return work()

    def work():
        return 0

    assert in_a_child(early, armed=False) == 128 + signal.SIGTERM
    assert in_a_child(work, after=stop) == 0


def in_a_child(work, armed=True, after=lambda: None):
    """The exit code of a child that listens for stops and does `work`, not all of it `armed`."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        stopping.listen()
        if not armed:
            stop()
        stopping.until_stopped(work)
        after()
        code = 0
    except stopping.Stopped as stopped:
        code = 128 + stopped.signal
    finally:
        os._exit(code)
