"""`dsee-compress` in forked processes: the libraries are imported once, so that hundreds of commands take minutes.

A child is a process of its own: it can be killed, run out of memory or crash without its parent.
"""

import os
import resource
import runpy
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # a parent whose libraries have threads of their own cannot be forked safely
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def preload() -> None:
    """Import what the commands import inside themselves; nothing is run that would start a thread."""
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import optimum.exporters.onnx  # noqa: F401
    import torch

    from dsee_compress import stages  # noqa: F401
    from dsee_compress.stages import benchmark, bundle, export, finetune, prune, report, run, validate  # noqa: F401

    torch.set_num_threads(1)


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    """Exit code, or minus the number of the signal that ended it."""
    stdout: str
    stderr: str


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

    What the function returns is the exit code, and so is what it gives to sys.exit.
    """

    def __init__(
        self,
        run: Callable[[], int],
        folder: Path,
        log: Path,
        stdin: Path | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._log = log
        log.mkdir(parents=True, exist_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(run, folder, stdin, limits)

    def _become(self, run: Callable[[], int], folder: Path, stdin: Path | None, limits: Limits | None) -> None:
        code = 1
        try:
            os.setsid()
            for number, path, flags in (
                (0, stdin or Path(os.devnull), os.O_RDONLY),
                (1, self._log / "stdout", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
                (2, self._log / "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            ):
                os.dup2(os.open(path, flags, 0o644), number)
            sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, "rw"[number > 0]) for number in range(3))
            os.chdir(folder)
            if limits is not None:
                limits.impose()
            try:
                code = run()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the command and to the processes that it started."""
        os.killpg(self.pid, number)

    def wait(self, seconds: float = 120.0) -> Outcome:
        """How it ended; after `seconds` it is killed, and its code is that of SIGKILL."""
        end = time.monotonic() + seconds
        while True:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                return Outcome(code, *((self._log / name).read_text(errors="replace") for name in ("stdout", "stderr")))
            if time.monotonic() > end:
                self.kill()
            time.sleep(0.01)


class Command(Process):
    """A `dsee-compress` command."""

    def __init__(
        self,
        arguments: list[str],
        folder: Path,
        log: Path,
        stdin: Path | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(lambda: _run_command(arguments), folder, log, stdin, limits)


class Program(Process):
    """A Python program of its own, `predict.py` of a bundle say."""

    def __init__(
        self,
        program: Path,
        arguments: list[str],
        folder: Path,
        log: Path,
        stdin: Path | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(lambda: _run_program(program, arguments), folder, log, stdin, limits)


def _run_command(arguments: list[str]) -> int:
    from dsee_compress_cli import main

    sys.argv = ["dsee-compress", *arguments]
    main.main()
    return 0


def _run_program(program: Path, arguments: list[str]) -> int:
    sys.argv = [str(program), *arguments]
    runpy.run_path(str(program), run_name="__main__")
    return 0
