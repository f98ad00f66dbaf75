"""`dsee-compress` in forked processes: the libraries are imported once, so that hundreds of commands take minutes.

A child is a process of its own: it can be killed, run out of memory or crash without its parent.
"""

import os
import signal
import sys
import time
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


class Command:
    """A `dsee-compress` command that runs in `folder`; what it prints goes to files in `log`."""

    def __init__(self, arguments: list[str], folder: Path, log: Path, stdin: Path | None = None) -> None:
        self._log = log
        log.mkdir(parents=True, exist_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(arguments, folder, stdin)

    def _become(self, arguments: list[str], folder: Path, stdin: Path | None) -> None:
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
            sys.argv = ["dsee-compress", *arguments]
            from dsee_compress_cli import main

            try:
                main.main()
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
