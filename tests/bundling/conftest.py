"""A device: a Python that has what a bundle's requirements name, and nothing of ours."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from filelock import FileLock
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import dsee_compress

ROOT = Path(__file__).parents[2]
PACKAGES = ("numpy", "onnxruntime", "tokenizers")


@dataclass(frozen=True)
class Device:
    """A virtual environment, and how programs are run in it."""

    python: Path

    def run(self, program: Path | str, *arguments: object, given: bytes | None = None, folder: Path | None = None):
        """Run a program of a bundle with `given` on its standard input, in `folder`."""
        command = [str(self.python), "-I", str(program), *map(str, arguments)]
        return subprocess.run(command, input=given, capture_output=True, check=False, cwd=folder)

    def answers(self, bundle: Path, *arguments: object, given: bytes | None = None) -> list[dict]:
        """What predict.py prints, a line a line."""
        done = self.run(bundle / "predict.py", *arguments, given=given)
        assert done.returncode == 0, done.stderr.decode()
        return [json.loads(line) for line in done.stdout.decode("ascii").splitlines()]


@pytest.fixture(scope="session")
def device(tmp_path_factory: pytest.TempPathFactory) -> Device:
    """With the versions that the project is tested with: links to what is installed here."""
    folder = tmp_path_factory.mktemp("device")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for package in _needed(PACKAGES):
        for name in {file.parts[0] for file in package.files or () if file.parts[0] != ".."}:
            place = packages / name
            if not place.exists():
                place.symlink_to(package.locate_file(name))
    return Device(folder / "bin" / "python")


def _needed(names: Iterable[str]) -> list[Distribution]:
    """Installed packages of these names, and all that they require."""
    found: dict[str, Distribution] = {}
    wanted = [*names]
    while wanted:
        name = canonicalize_name(wanted.pop())
        if name not in found:
            found[name] = distribution(name)
            requirements = map(Requirement, found[name].requires or ())
            wanted += [each.name for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    return [*found.values()]


@pytest.fixture(scope="session")
def oldest_device(tmp_path_factory: pytest.TempPathFactory) -> Device:
    """With the lower bounds of a bundle's requirements.

    Of processes that share the tests the first makes it for all, and the others wait.
    """
    lines = (ROOT / "dsee_compress" / "bundling" / "requirements.txt").read_text().splitlines()
    oldest = [line.replace(">=", "==") + ".0" for line in lines if not line.startswith("#")]
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / "oldest"
    python, made = folder / "bin" / "python", folder / "made"
    with FileLock(root / "oldest.lock"):
        if not made.exists():
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *oldest], check=True)
            made.touch()
    return Device(python)


@pytest.fixture(scope="session")
def small_export(bert_tuned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX folder of the unpruned BERT, fp32 and int8."""
    return dsee_compress.export(bert_tuned, output=tmp_path_factory.mktemp("small") / "export")


@pytest.fixture(scope="session")
def small(small_export: Path) -> Path:
    """A bundle of it."""
    return dsee_compress.bundle(small_export, output=small_export.parent / "bundle")


@pytest.fixture
def damaged(small: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, for a test to damage."""
    return Path(shutil.copytree(small, tmp_path / "damaged"))
