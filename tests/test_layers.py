"""The folder tree is the design: imports run downwards, and no room reaches up."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1] / "dsee_compress"
FLOOR = {
    "stages": 4,
    "targets": 3,
    **dict.fromkeys(
        ("adapters", "bundling", "pruning", "exporting", "evaluation", "tasks", "training", "reporting"), 2
    ),
    **dict.fromkeys(
        ("architectures", "checkpoint", "configs", "distributed", "errors", "option_types", "progress", "weights"), 1
    ),
    "store": 1,
}


def test_imports_run_downwards():
    upwards = []
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                inside = path.relative_to(ROOT).parts[: -node.level]
                target = [*inside, *(node.module or "").split(".")]
                names = [target[0]] if target[0] else [alias.name for alias in node.names]
                upwards += [f"{path.name} imports {name}" for name in names if FLOOR[name] > FLOOR[room]]
    assert not upwards


def test_every_room_is_known():
    rooms = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))}
    assert rooms - {"__init__"} == FLOOR.keys()


def test_the_wheel_claims_no_common_name():
    import tomllib

    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())
    assert {name.split(".")[0] for name in project["tool"]["setuptools"]["packages"]} == {
        "dsee_compress",
        "dsee_compress_cli",
    }
