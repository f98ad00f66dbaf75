"""The folder tree is the design: every room has a floor of its own, and imports run downwards."""

import ast
import shutil
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dsee_compress"
FLOORS = (
    *("metrics", "runtime", "plain", "errors", "option_types", "strict", "yaml_text", "child_process", "naming"),
    *("digests", "distributed", "progress", "data", "tasks", "configs", "options", "weights", "loading", "store"),
    *("architectures", "models", "costs", "adapters", "training", "evaluation", "targets", "pruning"),
    *("exporting", "interfaces", "pretrained", "reporting", "bundling", "stages"),
)
"""Rooms, the lowest first."""


def upwards(package: Path) -> list[str]:
    """Imports of a room by one that stands below it, wherever in a file they are."""
    floor = {room: number for number, room in enumerate(FLOORS)}
    found = []
    for path in package.rglob("*.py"):
        folders = path.relative_to(package).parts
        room = folders[0].removesuffix(".py")
        if room == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            for other in imported(node, folders[:-1]):
                if other in floor and floor[other] > floor[room]:
                    found.append(f"{path.relative_to(package)} imports {other}")
    return found


def imported(node: ast.AST, inside: tuple[str, ...]) -> list[str]:
    """The rooms that a statement of a file in the folders `inside` imports."""
    if isinstance(node, ast.Import):
        names = [alias.name.split(".") for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = [*inside[: len(inside) + 1 - node.level]] if node.level else []
        base += node.module.split(".") if node.module else []
        names = [base] if base and base != ["dsee_compress"] else [[*base, alias.name] for alias in node.names]
        if node.level:
            return [name[0] for name in names]
    else:
        return []
    return [name[1] for name in names if name[0] == "dsee_compress" and len(name) > 1]


def test_imports_run_downwards():
    assert upwards(PACKAGE) == []


@pytest.mark.parametrize(
    "statement",
    [
        "from ..pruning import selection",
        "from .. import pruning",
        "from dsee_compress.pruning.selection import units",
        "from dsee_compress import pruning",
        "import dsee_compress.pruning.selection",
        "def later():\n    from ..pruning import selection",
    ],
)
def test_a_planted_circle_is_found(tmp_path, statement):
    """`pruning` imports `evaluation`."""
    planted = Path(shutil.copytree(PACKAGE, tmp_path / "dsee_compress"))
    with (planted / "evaluation" / "session.py").open("a") as file:
        file.write(f"\n\n{statement}\n")
    assert upwards(planted) == ["evaluation/session.py imports pruning"]


def test_every_room_has_a_floor():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or [*path.glob("*.py")]}
    assert sorted(rooms - {"__init__"}) == sorted(FLOORS)


def test_the_wheel_claims_no_common_name():
    import tomllib

    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())
    assert {name.split(".")[0] for name in project["tool"]["setuptools"]["packages"]} == {
        "dsee_compress",
        "dsee_compress_cli",
    }


NAMES = {"classification", "regression", "generation", "token-classification", "multi-label"}
"""Of tasks."""


def asked_elsewhere(package: Path) -> list[str]:
    """Comparisons of a task's name outside `tasks`, and `.decoder` outside the families and interfaces."""
    found = []
    for path in package.rglob("*.py"):
        place = path.relative_to(package)
        for node in ast.walk(ast.parse(path.read_text())):
            asks = isinstance(node, ast.Attribute) and node.attr == "decoder"
            if asks and place.parts[0] not in ("architectures", "interfaces"):
                found.append(f"{place}:{node.lineno} asks for .decoder")
            compared = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            values = [leaf.value for part in compared for leaf in ast.walk(part) if isinstance(leaf, ast.Constant)]
            if place.parts[0] != "tasks" and NAMES & {value for value in values if isinstance(value, str)}:
                found.append(f"{place}:{node.lineno} compares the name of a task")
    return found


def test_a_tasks_name_is_compared_in_its_room_alone_and_one_place_knows_a_decoder():
    assert asked_elsewhere(PACKAGE) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('if task.name == "regression":\n    pass', "compares the name of a task"),
        ('found = "generation" in (task.name,)', "compares the name of a task"),
        ("if family.decoder:\n    pass", "asks for .decoder"),
    ],
)
def test_a_planted_question_is_found(tmp_path, line, said):
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "x.py").write_text(line)
    assert asked_elsewhere(tmp_path) == [f"stages/x.py:1 {said}"]


def test_all_names_of_tasks_are_looked_for():
    from dsee_compress.tasks import TASKS

    assert {*TASKS} == NAMES


def test_no_file_and_no_function_is_too_long_to_be_read_at_once():
    long = []
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        if len(text.splitlines()) > 400:
            long.append(f"{path.name} has {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 60:
                long.append(f"{path.name}: {node.name} has {(node.end_lineno or 0) - node.lineno + 1} lines")
    assert long == []
