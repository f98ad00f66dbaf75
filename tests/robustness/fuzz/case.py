"""One case: a command, how it ended, and what is wrong with that."""

import shlex
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .. import forked

LIMITS = forked.Limits(cpu_seconds=60, more_memory=4 * 2**30)
SECONDS = 300.0
"""Of the clock; those of the CPU are what counts."""
LEFT_ON_PURPOSE = (".checkpoints", ".lock")
"""Ends of what may lie beside an output after a refusal: what training goes on from, and a lock's file."""
LONGEST_SENTENCE = 1200

Check = Callable[[Path], str]
"""Looks at a case's folder after exit code 0, in a process of its own; says what is wrong, or nothing."""


@dataclass
class Case:
    """What is run in the case's folder, and what may come of it."""

    about: str
    arguments: list[str]
    output: str | None = "out"
    """What the command writes, in the case's folder: not there, unless the exit code is 0."""
    may: frozenset[int] = frozenset({0, 2, 3})
    """Exit codes that are right."""
    checks: list[Check] = field(default_factory=list)
    goes_on: bool = False
    """Whether it may have done some of its work, of several stages, before it is refused."""
    program: Path | None = None
    """Run instead of `dsee-compress`."""
    stdin: bytes = b""


ACCEPTED, REFUSED = frozenset({0}), frozenset({2})


@dataclass(frozen=True)
class Verdict:
    """How a case ended, in a word, and what is wrong with it."""

    outcome: str
    faults: list[str]
    command: str


def judge(case: Case, folder: Path, log: Path) -> Verdict:
    """Run a case in its folder, and look at all that it left."""
    before = _snapshot(folder)
    log.mkdir(parents=True, exist_ok=True)
    (log / "stdin").write_bytes(case.stdin)
    if case.program is None:
        process = forked.Command(case.arguments, folder, log, log / "stdin", LIMITS.impose)
    else:
        process = forked.Program(case.program, case.arguments, folder, log, log / "stdin", LIMITS.impose)
    ended = process.wait(SECONDS)
    faults = [*_of_the_exit(case, ended), *_of_the_files(case, ended.code, before, _snapshot(folder))]
    if ended.code == 0 and not faults:
        faults = _of_the_checks(case, folder, log)
    program = "dsee-compress" if case.program is None else f"python {case.program}"
    return Verdict(_word(ended.code), faults, f"{program} {shlex.join(case.arguments)}")


def _word(code: int) -> str:
    if code >= 0:
        return f"exit {code}"
    return {signal.SIGKILL: "clock", signal.SIGXCPU: "endless", signal.SIGSEGV: "segfault"}.get(
        -code, f"signal {-code}"
    )


def _of_the_exit(case: Case, ended: forked.Outcome) -> list[str]:
    lines = ended.stderr.splitlines()
    told = [line for line in lines if line.startswith("error: ")]
    faults = []
    if ended.code not in case.may:
        allowed = " or ".join(map(str, sorted(case.may)))
        faults.append(f"{_word(ended.code)}, not {allowed}: {' '.join(lines[-1:])[-300:]}")
    for name, printed in (("stderr", ended.stderr), ("stdout", ended.stdout)):
        faults += [
            f"{word!r} in {name}" for word in ("Traceback", "internal error", "Exception ignored") if word in printed
        ]
    if ended.code in (2, 3) and told != lines[-1:]:
        faults.append(f"not one sentence, and the last: {lines[-2:]}")
    if ended.code == 0 and told:
        faults.append(f"exit code 0, and {told[0]!r}")
    if any(len(line) > LONGEST_SENTENCE or not line.isprintable() for line in told):
        faults.append("the sentence is long, or not printable")
    return faults


def _snapshot(folder: Path) -> dict[str, tuple[int, int] | None]:
    """Files with size and date, and folders, by their paths."""
    found: dict[str, tuple[int, int] | None] = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        found[str(path.relative_to(folder))] = None if path.is_dir() else (status.st_size, status.st_mtime_ns)
    return found


def _of_the_files(
    case: Case, code: int, before: dict[str, tuple[int, int] | None], after: dict[str, tuple[int, int] | None]
) -> list[str]:
    new = [path for path in after if path not in before and not _on_purpose(path)]
    hidden = [path for path in new if any(part.startswith(".") for part in Path(path).parts)]
    faults = [f"left behind: {path}" for path in hidden[:2]]
    if code == 0 or case.goes_on:
        return faults
    if case.output is not None and case.output in new:
        faults.append(f"{case.output} was written, with exit code {code}")
    changed = [path for path, stamp in before.items() if after.get(path, "gone") != stamp and not _on_purpose(path)]
    faults += [f"changed, with exit code {code}: {path}" for path in changed[:2]]
    return faults + [
        f"written, with exit code {code}: {path}" for path in new[:2] if after[path] and path not in hidden
    ]


def _on_purpose(path: str) -> bool:
    return any(part.startswith(".") and part.endswith(LEFT_ON_PURPOSE) for part in Path(path).parts)


def _of_the_checks(case: Case, folder: Path, log: Path) -> list[str]:
    def run() -> None:
        for check in case.checks:
            try:
                wrong = check(folder)
            except Exception:
                wrong = traceback.format_exc()
            if wrong:
                print(wrong)

    if not case.checks:
        return []
    said = forked.Process(run, folder, log / "checks", first=LIMITS.impose).wait(SECONDS)
    return [f"silently wrong: {said.stdout.strip()[-400:]}"] if said.stdout.strip() or said.code else []


def in_child(function: Callable[[], object], folder: Path, log: Path) -> None:
    """Run what makes an input in a process of its own: libraries start threads, and a parent with threads forks ill.

    RuntimeError, with what was printed, if it fails.
    """

    ended = forked.Process(function, folder, log).wait(SECONDS)
    if ended.code:
        print(ended.stderr, file=sys.stderr)
        raise RuntimeError(f"an input could not be made: {ended.stderr[-300:]}")
