"""Trials of one kind on one stage, each with its own seed, and what was wrong in them."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from .commands import Content, Stage, View
from .forked import Outcome
from .workshop import Workshop


@dataclass
class Trial:
    """One disturbed command, or more of them."""

    seed: int
    kind: str
    stage: Stage
    number: int
    story: list[str] = field(default_factory=list)
    """What was done, for who wants to see it again."""
    faults: list[str] = field(default_factory=list)
    landed: bool = True
    """Whether the disturbance met a running command."""
    moment: float = 0.0
    """Seconds from a command's start to the disturbance, where it is one of a moment."""

    def __post_init__(self) -> None:
        self.draw = random.Random(f"{self.seed} {self.kind} {self.stage.name} {self.number}")

    def tell(self, what: str) -> None:
        """Add to the story."""
        self.story.append(what)

    def require(self, holds: bool, otherwise: str) -> None:
        """Note a fault unless something holds."""
        if not holds:
            self.faults.append(otherwise)

    def __str__(self) -> str:
        return f"{self.stage.name}, {self.kind} {self.number}: {'; '.join(self.story)}: {'; '.join(self.faults)}"


def seen(trial: Trial, workshop: Workshop) -> View | None:
    """What is there of the trial's outputs; None, and a fault, if it cannot be read."""
    try:
        return trial.stage.view(workshop.work)
    except (OSError, ValueError) as error:
        trial.require(False, f"an output cannot be read: {error}")
        return None


def require_whole(trial: Trial, workshop: Workshop, variants: Iterable[int], older: int | None) -> None:
    """Each output is that of one of the variants, or not there if there was none; those of one command agree.

    For a moment a folder that is replaced is not there, but beside its place, from where the next command takes it.
    """
    view = seen(trial, workshop)
    if view is None:
        return
    stage = trial.stage
    references = {
        variant: workshop.reference(stage, variant) for variant in {*variants, *([older] * (older is not None))}
    }
    agreeing = set(references)
    for name in stage.outputs:
        if name not in view:
            vanished = older is not None and name in references[older] and name not in stage.may_vanish
            aside = older is not None and stage.aside(workshop.work, name) == references[older].get(name)
            trial.require(aside or not vanished, f"{name} is gone")
            continue
        of = {variant for variant, reference in references.items() if reference.get(name) == view[name]}
        trial.require(bool(of), f"{name} is that of none: {_difference(view[name], references, name)}")
        if name in stage.together and of:
            agreeing &= of
    trial.require(bool(agreeing), f"{' and '.join(stage.together)} are not of one command")


def require_same(trial: Trial, workshop: Workshop, variant: int) -> None:
    """The outputs are those of an undisturbed command, and nothing lies beside them."""
    view, reference = seen(trial, workshop), workshop.reference(trial.stage, variant)
    if view is None:
        return
    for name in reference:
        trial.require(name in view, f"{name} is not there at the end")
        if name in view and view[name] != reference[name]:
            trial.require(False, f"{name} is another at the end: {_difference(view[name], {0: reference}, name)}")
    litter = [*workshop.litter()]
    trial.require(not litter, f"left behind: {', '.join(litter)}")


def last_line(outcome: Outcome) -> str:
    """The last line that a command printed on stderr."""
    return (outcome.stderr.strip().splitlines() or [""])[-1]


def require_sentence(trial: Trial, outcome: Outcome) -> None:
    """A refusal is exit code 2 and one sentence."""
    if outcome.code != 2 or not last_line(outcome).startswith("error: ") or "Traceback" in outcome.stderr:
        trial.require(False, f"no refusal in one sentence, but exit code {outcome.code} and {outcome.stderr[-300:]!r}")


def _difference(content: Content, references: dict[int, View], name: str) -> str:
    """Where a content differs from each reference, in short."""
    told = []
    for variant, reference in references.items():
        expected = reference.get(name)
        if isinstance(content, dict) and isinstance(expected, dict):
            keys = [key for key in {**expected, **content} if expected.get(key) != content.get(key)]
            told.append(f"from {variant} in {', '.join(sorted(keys))}")
        else:
            told.append(f"from {variant}")
    return ", ".join(told)
