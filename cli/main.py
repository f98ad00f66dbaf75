"""The entry point: registers the commands and turns what goes wrong into one sentence and an exit code.

0: done. 1: a crash of our own. 2: a mistake in what was asked for. 3: a gate did not hold. 130, 143: stopped.
"""

import contextlib
import io
import os
import sys
import traceback
import warnings
from typing import Annotated

import typer

from dsee_compress import distributed
from dsee_compress.errors import GateError, UserError, one_line, shown
from dsee_compress.plain import plain
from dsee_compress.store import space

from . import (
    benchmark,
    bundle,
    export,
    export_peft,
    finetune,
    generate,
    import_peft,
    inspect,
    prune,
    push,
    report,
    run,
    stopping,
    validate,
)

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
) -> None:
    """Fine-tune, prune and export transformers: smaller, faster ONNX models, proven equal and measured."""


for command in (
    finetune.finetune,
    prune.prune,
    export.export,
    validate.validate,
    benchmark.benchmark,
    bundle.bundle,
    generate.generate,
    report.report,
    push.push,
    run.run,
    inspect.inspect,
    import_peft.import_peft,
    export_peft.export_peft,
):
    app.command(no_args_is_help=True)(command)


def main() -> None:
    """Run `dsee-compress` with the shell's arguments."""
    _open_closed_streams()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # A thread of OpenMP that spins while it waits keeps a core from the one it waits for, where cores are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # where the terminal's encoding lacks a letter
    stopping.listen()
    if not distributed.is_main():
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    debug = "--debug" in sys.argv
    if not debug:
        warnings.simplefilter("ignore")
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    sys.exit(_run(arguments, debug))


def _run(arguments: list[str], debug: bool) -> int:
    try:
        _require_text(arguments)
        result = stopping.until_stopped(lambda: app(arguments, standalone_mode=False))
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except (UserError, GateError) as error:
        if debug:
            _tell_whole()
        _tell(f"error: {error}")
        return 2 if isinstance(error, UserError) else 3
    except stopping.Stopped as stop:
        if "--overwrite" in arguments:
            _tell("stopped; what was there is as before, and the same command starts anew")
        else:
            _tell("stopped; run the same command again to go on from the last whole checkpoint")
        return 128 + stop.signal
    except typer.Exit as end:
        return end.exit_code
    except SystemExit:  # click's, where nobody reads on, as behind `| head`
        return 0
    except OSError as error:  # no permission, no space, a file where a folder should be
        if debug:
            _tell_whole()
        full = "no space left on the disk; free some, and run the command again: "
        _tell(f"error: {full if space.is_of_a_full_disk(error) else ''}{error}")
        return 2
    except Exception as error:
        if hasattr(error, "format_message"):  # the parser's own: an unknown option, a missing argument
            if message := error.format_message():
                _tell(f"error: {message}; see dsee-compress --help")
            return 2
        if debug:
            _tell_whole()
        kind = type(error).__name__
        _tell(f"internal error ({kind}): {error}; run again with --debug and report it")
        return 1


def _open_closed_streams() -> None:
    """Where the shell closed a standard stream (`>&-`), what is printed goes nowhere, and not into another file."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "w" if number else "r"))


def _require_text(arguments: list[str]) -> None:
    """UserError for bytes that are no UTF-8, which neither JSON nor the libraries take in a path."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"the argument {shown(argument)} is not UTF-8; rename what it names") from error


def _tell(sentence: str) -> None:
    """On stderr; with its number, if it is not the first of many processes."""
    who = "" if distributed.is_main() else f"process {os.environ['RANK']}: "
    with contextlib.suppress(OSError):  # where stderr is a file on a full disk, the exit code alone tells
        print(f"{who}{one_line(sentence)}", file=sys.stderr, flush=True)


def _tell_whole() -> None:
    """The traceback of the exception that is being handled."""
    print(plain(traceback.format_exc(), keep="\n"), file=sys.stderr, end="")


if __name__ == "__main__":
    main()
