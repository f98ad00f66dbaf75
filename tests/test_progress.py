"""What a user sees of a long step without a terminal, and how threads wait where cores are shared."""

import io
import subprocess
import sys
import time

import pytest
from transformers import TrainerState

from dsee_compress import progress
from dsee_compress.training import callbacks


@pytest.fixture
def log(monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr(progress, "console", progress.TextConsole(file=written, width=100))
    monkeypatch.setattr(progress, "PULSE", 0.02)
    return written


def wait_for(log, text):
    end = time.monotonic() + 30
    while text not in log.getvalue():
        assert time.monotonic() < end, log.getvalue()
        time.sleep(0.01)


def test_a_long_step_says_every_now_and_then_that_it_still_runs(log):
    with progress.step("compare [all] of it"):
        wait_for(log, "… compare [all] of it: 0 s so far\n")
    told = log.getvalue()
    assert told.endswith("✓ compare [all] of it\n")
    time.sleep(0.1)
    assert log.getvalue() == told


def test_a_step_that_fails_is_not_left_behind_and_says_no_more(log):
    with pytest.raises(KeyError), progress.step("read"):
        wait_for(log, "so far")
        raise KeyError
    told = log.getvalue()
    time.sleep(0.1)
    assert "✓" not in told and log.getvalue() == told


def test_a_terminal_gets_no_such_lines(log, monkeypatch):
    monkeypatch.setattr(progress, "console", progress.TextConsole(file=log, width=100, force_terminal=True))
    with progress.pulse(lambda: "still running"):
        time.sleep(0.2)
    assert "still running" not in log.getvalue()


def test_training_says_its_steps_and_the_time_left(log, monkeypatch):
    monkeypatch.setattr(callbacks, "console", progress.console)
    bar, state = callbacks.RichProgress("retune"), TrainerState(max_steps=40)
    try:
        bar.on_train_begin(None, state, None)
        wait_for(log, "… retune: 0 of 40 steps\n")
        state.global_step = 39
        bar.on_log(None, state, None, logs={"loss": 0.51})
        wait_for(log, "… retune: 39 of 40 steps, about 0 s left, loss 0.510\n")
    finally:
        bar.stop()


@pytest.mark.parametrize(
    "seconds, text", [(0.4, "0 s"), (59.4, "59 s"), (200, "3 min 20 s"), (3599.7, "1 h 0 min"), (7500, "2 h 5 min")]
)
def test_times_are_written_as_people_read_them(seconds, text):
    assert progress.duration(seconds) == text


_WAITING = """
import os, sys
from dsee_compress_cli import main
sys.argv = ["dsee-compress", "--help"]
try:
    main.main()
finally:
    print("torch" in sys.modules, os.environ["OMP_WAIT_POLICY"])
"""


@pytest.mark.parametrize("asked, used", [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_leave_their_core_to_others_unless_the_user_says_otherwise(monkeypatch, asked, used):
    """OpenMP reads its environment once, when torch is loaded."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if asked:
        monkeypatch.setenv("OMP_WAIT_POLICY", asked)
    ended = subprocess.run([sys.executable, "-c", _WAITING], capture_output=True, text=True, check=False)
    assert ended.stdout.splitlines()[-1] == f"False {used}"
