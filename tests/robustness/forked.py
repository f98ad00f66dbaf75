"""`dsee-compress` in forked processes: the libraries are imported once, so that hundreds of commands take minutes.

A child is a process of its own: it can be killed, run out of memory or crash without its parent.
"""

import gc
import importlib
import os
import re
import resource
import runpy
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

os.environ["OMP_NUM_THREADS"] = "1"  # a parent whose libraries have threads of their own cannot be forked safely
os.environ.setdefault("HF_HUB_OFFLINE", "1")

_STAGES = ("benchmark", "bundle", "export", "finetune", "peft", "prune", "report", "run", "validate")
_LIBRARIES = (
    *("cpuinfo", "matplotlib.backends.backend_svg", "onnx", "scipy.io", "sympy"),
    *("onnxruntime.quantization", "onnxruntime.transformers.onnx_model", "onnxscript.rewriter"),
    *(f"dsee_compress.stages.{stage}" for stage in _STAGES),
    "dsee_compress_cli.main",
)
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}


def preload() -> None:
    """Import what the commands import inside themselves, and find out about the machine what they cache.

    Nothing is run that would start a thread.
    """
    for name in _LIBRARIES:
        importlib.import_module(name)
    import torch

    from dsee_compress.evaluation import environment

    environment.cpu_flags()
    torch.set_num_threads(1)


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    """Exit code, or minus the number of the signal that ended it."""
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Operations:
    """To be told to a command: write down, line by line in `log`, what it is about to do with files in `folder`.

    Just before the one of the number `at`, from 0 on, it sends `number` to itself. Only what Python does counts, not
    what libraries written in other languages do.
    """

    log: Path
    folder: Path
    at: int | None = None
    number: int = signal.SIGKILL
    reads: bool = False
    """Whether opening a file to read it counts, too."""

    def watch(self) -> None:
        """Start, in the process that is to be watched."""
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        count = 0

        def heard(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            if not self._counts(event, arguments):
                return
            count += 1
            if count - 1 == self.at:
                os.kill(os.getpid(), self.number)
            names = (os.fsdecode(name) for name in arguments[:2] if isinstance(name, str | bytes | os.PathLike))
            os.write(log, f"{event} {' '.join(names)}\n".encode())

        sys.addaudithook(heard)

    def _counts(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            path, _, flags = arguments
            if not self.reads and not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return False
        elif event in _CHANGES:
            path = arguments[0]
        else:
            return False
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        name = os.fsdecode(path)
        return not Path(name).is_absolute() or Path(name).is_relative_to(self.folder)


@dataclass(frozen=True)
class Limits:
    """What a process may use before the system stops it."""

    cpu_seconds: int
    more_memory: int
    """Bytes of address space beyond those that the parent has."""

    def impose(self) -> None:
        """On this process, and those that it starts."""
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + self.more_memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (self.cpu_seconds, self.cpu_seconds + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Process:
    """A function that runs in a forked process in `folder`; what it prints goes to files in `log`.

    The exit code is 0, or what the function gives to sys.exit. `first` is called before it.
    """

    def __init__(
        self,
        run: Callable[[], object],
        folder: Path,
        log: Path,
        stdin: Path | None = None,
        first: Callable[[], None] | None = None,
    ) -> None:
        self._log = log
        self._code: int | None = None
        log.mkdir(parents=True, exist_ok=True)
        for name in ("stdout", "stderr"):
            (log / name).touch()  # it may be killed before it opens them
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(run, folder, stdin, first)

    def _become(
        self, run: Callable[[], object], folder: Path, stdin: Path | None, first: Callable[[], None] | None
    ) -> None:
        code = 1
        try:
            os.setsid()
            gc.freeze()  # what the parent has made need not be searched for garbage
            for number, path, flags in (
                (0, stdin or Path(os.devnull), os.O_RDONLY),
                (1, self._log / "stdout", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
                (2, self._log / "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            ):
                os.dup2(os.open(path, flags, 0o644), number)
            sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, "rw"[number > 0]) for number in range(3))
            os.chdir(folder)
            if first is not None:
                first()
            try:
                run()
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:  # whatever happens, it must not go on as its parent
                os._exit(code)

    def kill(self, number: int = signal.SIGKILL, alone: bool = False) -> None:
        """Send a signal to the command and, unless `alone`, to the processes that it started."""
        if self.ended():
            return
        try:
            (os.kill if alone else os.killpg)(self.pid, number)
        except ProcessLookupError:  # it was born this moment and has no group yet
            os.kill(self.pid, number)

    def wait(self, seconds: float = 120.0) -> Outcome:
        """How it ended; after `seconds` it is killed, and its code is that of SIGKILL."""
        end = time.monotonic() + seconds
        while not self.ended():
            if time.monotonic() > end:
                self.kill()
            time.sleep(0.01)
        assert self._code is not None
        return Outcome(self._code, *((self._log / name).read_text(errors="replace") for name in ("stdout", "stderr")))

    def paused(self) -> bool:
        """Wait until SIGSTOP has paused it (True), or it has ended (False)."""
        while self._code is None:
            _, status = os.waitpid(self.pid, os.WUNTRACED)
            if os.WIFSTOPPED(status):
                return True
            self._code = os.waitstatus_to_exitcode(status)
        return False

    def takes_stops(self) -> bool:
        """Wait until it handles SIGTERM itself (True), or has ended (False)."""
        while not self.ended():
            found = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
            if found and int(found[1], 16) >> (signal.SIGTERM - 1) & 1:
                return True
            time.sleep(0.002)
        return False

    def left_running(self) -> list[str]:
        """Names of the processes that it started and that still run."""
        running = []
        for process in psutil.process_iter(["name", "status"]):
            try:
                if os.getpgid(process.pid) == self.pid and process.info["status"] != psutil.STATUS_ZOMBIE:
                    running.append(process.info["name"])
            except ProcessLookupError:
                continue
        return running

    def ended(self) -> bool:
        """Whether it has ended."""
        if self._code is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code is not None


class Command(Process):
    """A `dsee-compress` command."""

    def __init__(
        self,
        arguments: list[str],
        folder: Path,
        log: Path,
        stdin: Path | None = None,
        first: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(lambda: run_command(arguments), folder, log, stdin, first)


class Program(Process):
    """A Python program that stands alone, `predict.py` of a bundle say."""

    def __init__(
        self,
        program: Path,
        arguments: list[str],
        folder: Path,
        log: Path,
        stdin: Path | None = None,
        first: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(lambda: _run_program(program, arguments), folder, log, stdin, first)


def run_command(arguments: list[str]) -> None:
    """A `dsee-compress` command in this process, which it may end."""
    from dsee_compress_cli import main

    sys.argv = ["dsee-compress", *arguments]
    main.main()


def _run_program(program: Path, arguments: list[str]) -> None:
    sys.argv = [str(program), *arguments]
    runpy.run_path(str(program), run_name="__main__")
