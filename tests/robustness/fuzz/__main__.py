"""python -m tests.robustness.fuzz: see --help."""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from .. import forked
from . import bundles, data, options, pretrained, recipes, stages
from .base import Base
from .case import Case, Verdict, judge

KINDS: dict[str, Callable[[random.Random, Base, Path], Case]] = {
    "options": options.make,
    "recipes": recipes.make,
    "data": data.make,
    "models": pretrained.make,
    "stages": stages.make,
    "bundles": bundles.make,
}


def run_case(kind: str, number: int, seed: int, base: Base, folder: Path) -> tuple[str, Verdict]:
    """Make case `number` of a kind in `folder`/case, and run it; what it is about, and its verdict."""
    place = folder / "case"
    place.mkdir(parents=True)
    case = KINDS[kind](random.Random(f"{seed} {kind} {number}"), base, place)
    return case.about, judge(case, place, folder / "log")


def main() -> int:
    """Run the cases; 1 if one is bad."""
    parser = argparse.ArgumentParser(prog="python -m tests.robustness.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=400, help="of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=[*KINDS], help="this kind alone")
    parser.add_argument("--case", type=int, help="this case of the kind alone")
    parser.add_argument("--keep", action="store_true", help="keep the folders of bad cases, and say where they are")
    parser.add_argument("--show", action="store_true", help="say how each case ended")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder if not given")
    given = parser.parse_args()
    kinds = [given.kind] if given.kind else [*KINDS]
    numbers = range(-(-given.cases // len(kinds))) if given.case is None else [given.case]
    forked.preload()
    root = Path(tempfile.mkdtemp(prefix="fuzz.", dir=given.folder))
    base = Base(root / "base")
    outcomes, bad, started = {kind: Counter[str]() for kind in kinds}, 0, time.monotonic()
    for kind, number in [(kind, number) for number in numbers for kind in kinds][: given.cases]:
        folder = root / f"{kind} {number}"
        about, verdict = run_case(kind, number, given.seed, base, folder)
        outcomes[kind]["bad" if verdict.faults else verdict.outcome] += 1
        if verdict.faults or given.show:
            print(f"{kind} {number} ({verdict.outcome}) {about}\n    {verdict.command[:400]}")
            print(*(f"    BAD: {fault}" for fault in verdict.faults), sep="\n")
        if verdict.faults:
            bad += 1
            print(
                f"    again: python -m tests.robustness.fuzz --seed {given.seed} --kind {kind} --case {number} --keep"
            )
        if verdict.faults and given.keep:
            print(f"    kept: {folder}")
        else:
            shutil.rmtree(folder)
        sys.stdout.flush()
    columns = sorted({outcome for counted in outcomes.values() for outcome in counted})
    print(f"{'':10}", *(f"{column:>9}" for column in columns))
    for kind, counted in outcomes.items():
        print(f"{kind:10}", *(f"{counted[column]:>9}" for column in columns))
    print(f"{bad} bad; {time.monotonic() - started:.0f} s")
    if not (given.keep and bad):
        shutil.rmtree(root)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
