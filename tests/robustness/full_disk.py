"""Disks that become full while a command writes: small memory file systems, which only root may mount."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .commands import Stage
from .trials import Trial, require_same, require_sentence, require_whole, seen
from .workshop import Workshop

_BLOCK = 4096
_AMPLE = 64 << 20
_SIZES = 10


def disk(trial: Trial, workshop: Workshop) -> None:
    """A disk with room for a part of what a command writes: a refusal and nothing new; with more room, the result.

    The parts are spread evenly from nothing to enough; every other time the command writes over older outputs.
    """
    stage, older = trial.stage, 1 if trial.number % 2 else None
    peak = _peak(workshop, stage, older)
    room = int(peak * (trial.number % _SIZES + trial.draw.random()) / _SIZES)
    trial.tell(f"room for {room:,} of {peak:,} bytes{' over older outputs' if older else ''}")
    with _mounted(workshop.work) as mount:
        workshop.empty(stage, older=older)
        mount.resize(mount.used() + room)
        before = stage.view(workshop.work)
        outcome = workshop.start(stage, overwrite=older is not None).wait()
        trial.landed = outcome.code != 0
        if trial.landed:
            require_sentence(trial, outcome)
            trial.require(not workshop.halves(), f"left behind: {workshop.halves()}")
            require_whole(trial, workshop, (0,), older)
            in_parts = stage.name in ("run", "report")
            trial.require(in_parts or seen(trial, workshop) == before, "it failed, and its outputs are not as before")
        mount.resize(_AMPLE)
        outcome = workshop.start(stage, overwrite=older is not None).wait()
        trial.require(outcome.code == 0, f"with room, exit code {outcome.code}: {outcome.stderr[-300:]!r}")
        require_same(trial, workshop, 0)


def can_mount() -> bool:
    """Whether this user may mount memory file systems."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with _mounted(Path(folder)):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


class _Mount:
    """A memory file system."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def used(self) -> int:
        """Bytes in use."""
        now = os.statvfs(self._path)
        return (now.f_blocks - now.f_bfree) * now.f_frsize

    def resize(self, size: int) -> None:
        """Give it a size in bytes, at least a block: 0 would be without a limit."""
        blocks = max(1, -(-size // _BLOCK))
        subprocess.run(["mount", "-o", f"remount,size={blocks * _BLOCK}", self._path], check=True)


@contextmanager
def _mounted(path: Path) -> Iterator[_Mount]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_AMPLE}", "tmpfs", path], check=True)
    try:
        yield _Mount(path)
    finally:
        subprocess.run(["umount", path], check=True)


_PEAKS: dict[tuple[Workshop, str, int | None], int] = {}


def _peak(workshop: Workshop, stage: Stage, older: int | None) -> int:
    """The most bytes that a command needs at a time beside what was there before."""
    for variant in (0, 1):
        workshop.reference(stage, variant)
    key = (workshop, stage.name, older)
    if key not in _PEAKS:
        with _mounted(workshop.work) as mount:
            workshop.empty(stage, older=older)
            before = peak = mount.used()
            command = workshop.start(stage, overwrite=older is not None)
            while not command.ended():
                peak = max(peak, mount.used())
            _PEAKS[key] = peak - before
    return _PEAKS[key]
