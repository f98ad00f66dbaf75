"""Stage folders that many tests read: made once a session, by the stages themselves."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # the models are so small that a second thread only gets in the way
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from pathlib import Path

import pytest
from hypothesis import settings

import dsee_compress

from .fixtures import models

settings.register_profile("default", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("default")

FINETUNE = {"epochs": 20, "batch_size": 16, "learning_rate": 1e-2, "rank": 3, "sparse": 5, "alpha": 6.0}
PRUNE = {
    "heads": 0.34,
    "neurons": 0.3,
    "allocation": "global",
    "retune_epochs": 5,
    "batch_size": 16,
    "learning_rate": 3e-3,
}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session", params=models.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def pretrained_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pretrained")
    return {family: models.write_model(family, root / family) for family in models.FAMILIES}


@pytest.fixture(scope="session")
def pretrained(pretrained_folders: dict[str, Path], family: str) -> Path:
    return pretrained_folders[family]


@pytest.fixture(scope="session")
def bert(pretrained_folders: dict[str, Path]) -> Path:
    return pretrained_folders["bert"]


@pytest.fixture(scope="session")
def tuned_folders(pretrained_folders: dict[str, Path], data: Path, tmp_path_factory: pytest.TempPathFactory):
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            output = tmp_path_factory.mktemp(family) / "finetune"
            made[family] = dsee_compress.finetune(
                model=str(pretrained_folders[family]), data=str(data), output=output, **FINETUNE
            )
        return made[family]

    return make


@pytest.fixture(scope="session")
def tuned(tuned_folders, family: str) -> Path:
    """An adapter folder."""
    return tuned_folders(family)


@pytest.fixture(scope="session")
def pruned(tuned: Path) -> Path:
    """A folder of a pruned model."""
    return dsee_compress.prune(tuned, output=tuned.parent / "prune", **PRUNE)


@pytest.fixture(scope="session")
def exported(pruned: Path) -> Path:
    """An ONNX folder of a pruned model, fp32 and int8."""
    return dsee_compress.export(pruned, output=pruned.parent / "export")


@pytest.fixture(scope="session")
def dense(tuned: Path) -> Path:
    """An ONNX folder of the unpruned model."""
    return dsee_compress.export(tuned, output=tuned.parent / "dense", precision="fp32")


@pytest.fixture(scope="session")
def bert_tuned(tuned_folders) -> Path:
    return tuned_folders("bert")
