"""Two commands at once: two that write one output, and one that reads what the other replaces."""

import signal
import time

from .commands import STAGES, Stage, View
from .forked import Command, Outcome
from .trials import Trial, require_sentence, seen
from .workshop import Workshop


def writers(trial: Trial, workshop: Workshop) -> None:
    """Two variants of a command with one output: it is wholly that of one that ended well, and the other refused.

    The second starts at a random moment of the first, or while the first stands before a random operation on files.
    Every fifth time both are the same command, and half of the times both are to overwrite.
    """
    stage, overwrite = trial.stage, trial.number % 2 == 1
    first = trial.draw.randrange(2)
    second = first if trial.number % 5 == 4 else 1 - first
    for variant in (first, second):
        workshop.reference(stage, variant)
    trial.tell(f"variants {first} and {second}{', both with --overwrite' if overwrite else ''}")
    ends = _both(trial, workshop, first, second, overwrite)
    _require_ends(trial, [outcome for _, outcome in ends])
    winners = [variant for variant, outcome in ends if outcome.code == 0]
    trial.require(bool(winners), f"both failed: {[outcome.stderr[-200:] for _, outcome in ends]}")
    both_may = overwrite or first == second or not stage.refuses
    trial.require(len(winners) < 2 or both_may, "both ended well, and one of them has no output")
    view = seen(trial, workshop)
    if view is None:
        return
    # What a command that refuses nothing wrote may be replaced by the other before the first has ended.
    references = [workshop.reference(stage, variant) for variant in (winners[-1:] if stage.refuses else winners)]
    others = [name for name in stage.outputs if view.get(name) not in [reference.get(name) for reference in references]]
    trial.require(not others, f"variants {winners} ended well, in this order, and {', '.join(others)} is of another")
    trial.require(view in references or bool(others), "the outputs are mixed")
    litter = [*workshop.litter()]
    trial.require(not litter, f"left behind: {', '.join(litter)}")


def _both(trial: Trial, workshop: Workshop, first: int, second: int, overwrite: bool) -> list[tuple[int, Outcome]]:
    """How both ended, in the order in which they did."""
    stage = trial.stage
    if trial.draw.random() < 0.5:
        seconds = workshop.seconds(stage)
        moment = trial.draw.uniform(0, seconds)
        trial.tell(f"the second {moment:.3f} s after the first, which takes {seconds:.1f} s")
        workshop.empty(stage, first)
        one = workshop.start(stage, first, overwrite)
        time.sleep(moment)
        return _ends((first, one), (second, workshop.start(stage, second, overwrite)))
    operations = workshop.operations(stage)
    at = trial.draw.randrange(len(operations))
    trial.tell(f"the second while the first stands before operation {at} of {len(operations)}, {operations[at]}")
    workshop.empty(stage, first)
    one = workshop.start(stage, first, overwrite, workshop.pausing(at, signal.SIGSTOP))
    trial.landed = one.paused()
    between = workshop.start(stage, second, overwrite).wait()
    one.kill(signal.SIGCONT)
    ends = [(second, between), (first, one.wait())]
    return ends if trial.landed else ends[::-1]


def _ends(*commands: tuple[int, Command]) -> list[tuple[int, Outcome]]:
    running, ended = [*commands], []
    while running:
        for pair in [*running]:
            if pair[1].ended():
                running.remove(pair)
                ended.append((pair[0], pair[1].wait()))
        time.sleep(0.002)
    return ended


def _require_ends(trial: Trial, outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        trial.require(outcome.code in (0, 2), f"exit code {outcome.code}: {outcome.stderr[-300:]!r}")
        if outcome.code == 2:
            require_sentence(trial, outcome)


_EXPORTED = "exported0"
_WRITER = Stage(
    "export over another",
    lambda variant: ["export", "../in/pruned1", "--precision", "int8", "--output", _EXPORTED, "--overwrite"],
    (_EXPORTED,),
    STAGES["validate"].put,
)
_BUNDLE = Stage(
    "bundle of what is replaced",
    lambda variant: ["bundle", _EXPORTED, "--output", "out"],
    STAGES["bundle"].outputs,
    STAGES["validate"].put,
)


def readers(trial: Trial, workshop: Workshop) -> None:
    """`export --overwrite` replaces a folder under a command that reads it: what that writes is of one content.

    One of the two stands before a random operation on files while the other runs.
    """
    stage = _BUNDLE if trial.stage.name == "bundle" else trial.stage
    exports = [workshop.reference(STAGES["export"], variant) for variant in (0, 1)]
    in_turn = [_in_turn(workshop, stage, replaced) for replaced in (False, True)]
    reader_stands = trial.draw.random() < 0.7
    operations = workshop.operations(stage, reads=True) if reader_stands else workshop.operations(_WRITER)
    at = trial.draw.randrange(len(operations))
    who = "reader" if reader_stands else "writer"
    trial.tell(f"while the {who} stands before operation {at} of {len(operations)}, {operations[at]}")
    workshop.empty(stage)
    pausing = workshop.pausing(at, signal.SIGSTOP, reads=reader_stands)
    if reader_stands:
        reader = workshop.start(stage, first=pausing)
        trial.landed = reader.paused()
        writing = workshop.start(_WRITER).wait()
        reader.kill(signal.SIGCONT)
        reading = reader.wait()
    else:
        writer = workshop.start(_WRITER, first=pausing)
        trial.landed = writer.paused()
        reading = workshop.start(stage).wait()
        writer.kill(signal.SIGCONT)
        writing = writer.wait()
    trial.tell(f"exit codes {reading.code} of the reader, {writing.code} of the writer")
    _require_ends(trial, [reading, writing])
    replaced = writing.code == 0
    expected = exports[replaced]["out"]
    found = _WRITER.view(workshop.work).get(_EXPORTED, {})
    other = [name for name in expected if name.endswith(".onnx") and found.get(name) != expected[name]]
    trial.require(not other, f"of another content are {', '.join(other)}")
    if reading.code == 0 and (view := seen(trial, workshop)) is not None:
        _require_one(trial, _written(stage, view), in_turn, replaced if reader_stands and trial.landed else None)


def _require_one(trial: Trial, written: View, in_turn: list[View | None], replaced: bool | None) -> None:
    """What a reader wrote is as if it had run before or after the writer; where it ended last and wrote into the
    folder that was replaced, after (`replaced` says whether it was)."""
    if trial.stage.name == "bundle":
        trial.require(written in in_turn, "the bundle is of neither content")
    elif replaced is not None:
        trial.require(written == in_turn[replaced], f"it ended well, last, and its result is not that of {_EXPORTED}")
    else:
        trial.require(not written or written in in_turn, "the result is of neither content")


def _written(stage: Stage, view: View) -> View:
    """What a reader wrote: its outputs but for the folder that it reads."""
    return {name: content for name, content in view.items() if name != _EXPORTED}


def _in_turn(workshop: Workshop, stage: Stage, replaced: bool) -> View | None:
    """What a reader writes that runs before or after the writer; None if it refuses."""
    key = (workshop, stage.name, replaced)
    if key not in _IN_TURN:
        workshop.empty(stage)
        outcomes = [workshop.start(_WRITER).wait()] if replaced else []
        outcomes.append(workshop.start(stage).wait())
        _IN_TURN[key] = _written(stage, stage.view(workshop.work)) if not any(it.code for it in outcomes) else None
    return _IN_TURN[key]


_IN_TURN: dict[tuple[Workshop, str, bool], View | None] = {}
