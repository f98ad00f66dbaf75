"""A device: a Python that has what a bundle's requirements name, and nothing of ours."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

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


def make(factory: pytest.TempPathFactory, name: str, *requirements: object) -> Device:
    """Of processes that share the tests the first makes it for all, and the others wait."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / name
    python, made = folder / "bin" / "python", folder / "made"
    with FileLock(root / f"{name}.lock"):
        if not made.exists():
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
            made.touch()
    return Device(python)


@pytest.fixture(scope="session")
def device(tmp_path_factory: pytest.TempPathFactory) -> Device:
    """With the versions that the project is tested with."""
    return make(tmp_path_factory, "device", "-c", ROOT / "constraints.txt", *PACKAGES)


@pytest.fixture(scope="session")
def oldest_device(tmp_path_factory: pytest.TempPathFactory) -> Device:
    """With the lower bounds of a bundle's requirements."""
    lines = (ROOT / "dsee_compress" / "bundling" / "requirements.txt").read_text().splitlines()
    oldest = [line.replace(">=", "==") + ".0" for line in lines if not line.startswith("#")]
    return make(tmp_path_factory, "oldest", *oldest)


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
