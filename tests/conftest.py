"""Stage folders that many tests read: made once a session, by the stages themselves.

Tests of what a family does take `pruned`, `exported` … and run for each; all others take `bert_pruned` … and run once.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # the models are so small that a second thread only gets in the way
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import functools
import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import settings

import dsee_compress
from dsee_compress.configs import Precision

from .fixtures import decoder_stages, decoders, models, traces
from .fixtures.graphs import Graphs

settings.register_profile("default", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("default")

Folders = Callable[[str], Path]
"""Makes the folder of a family when it is first asked for."""

FINETUNE = {"epochs": 20, "batch_size": 16, "learning_rate": 1e-2, "rank": 3, "sparse": 5, "alpha": 6.0}
PRUNE = {
    "heads": 0.34,
    "neurons": 0.3,
    "allocation": "global",
    "retune_epochs": 5,
    "batch_size": 16,
    "learning_rate": 3e-3,
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from .fixtures.sharing import ByFixtures

    return ByFixtures(config, log) if config.getvalue("dist") == "loadscope" else None


def pytest_collection_finish() -> None:
    """Take what is imported by now out of every search for garbage: each training ends with one."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def shared_traces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        traces.share(patch)
        yield


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
def tuned_folders(pretrained_folders: dict[str, Path], data: Path, tmp_path_factory) -> Folders:
    """Adapter folders, by family."""

    @functools.cache
    def make(family: str) -> Path:
        output = tmp_path_factory.mktemp(family) / "finetune"
        return dsee_compress.finetune(model=str(pretrained_folders[family]), data=str(data), output=output, **FINETUNE)

    return make


@pytest.fixture(scope="session")
def pruned_folders(tuned_folders: Folders) -> Folders:
    """Folders of pruned models, by family."""

    @functools.cache
    def make(family: str) -> Path:
        tuned = tuned_folders(family)
        return dsee_compress.prune(tuned, output=tuned.parent / "prune", **PRUNE)

    return make


@pytest.fixture(scope="session")
def exported_folders(pruned_folders: Folders) -> Folders:
    """ONNX folders of pruned models, fp32 and int8, by family."""

    @functools.cache
    def make(family: str) -> Path:
        pruned = pruned_folders(family)
        return dsee_compress.export(pruned, output=pruned.parent / "export")

    return make


@pytest.fixture(scope="session")
def dense_folders(tuned_folders: Folders) -> Folders:
    """ONNX folders of unpruned models, by family."""

    @functools.cache
    def make(family: str) -> Path:
        tuned = tuned_folders(family)
        return dsee_compress.export(tuned, output=tuned.parent / "dense", precision="fp32")

    return make


@pytest.fixture(scope="session")
def everything_folders(pruned_folders: Folders) -> Callable[[str, str], Path]:
    """ONNX folders of pruned models in every precision, by family and style of the graph."""

    @functools.cache
    def make(family: str, style: str) -> Path:
        pruned = pruned_folders(family)
        return dsee_compress.export(pruned, output=pruned.parent / style, precision=[*get_args(Precision)], graph=style)

    return make


@pytest.fixture(scope="session")
def tuned(tuned_folders: Folders, family: str) -> Path:
    return tuned_folders(family)


@pytest.fixture(scope="session")
def pruned(pruned_folders: Folders, family: str) -> Path:
    return pruned_folders(family)


@pytest.fixture(scope="session")
def exported(exported_folders: Folders, family: str) -> Path:
    return exported_folders(family)


@pytest.fixture(scope="session")
def dense(dense_folders: Folders, family: str) -> Path:
    return dense_folders(family)


@pytest.fixture(scope="session")
def meanings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of a generation task."""
    return models.write_generation_data(tmp_path_factory.mktemp("meanings"))


@pytest.fixture(scope="session")
def tuned_decoders(meanings: Path, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Adapter folders of decoders, by family; what they were tuned from is `pretrained` beside them."""

    @functools.cache
    def make(family: str) -> Path:
        root = tmp_path_factory.mktemp(family)
        base = decoders.write_model(family, root / "pretrained")
        options = {"model": str(base), "data": str(meanings), "task": "generation"} | decoder_stages.FINETUNE
        return dsee_compress.finetune(output=root / "finetune", **options)

    return make


@pytest.fixture(scope="session")
def pruned_decoders(tuned_decoders: Folders) -> Folders:
    """Folders of pruned decoders, by family."""

    @functools.cache
    def make(family: str) -> Path:
        tuned = tuned_decoders(family)
        return dsee_compress.prune(tuned, output=tuned.parent / "prune", **decoder_stages.PRUNE)

    return make


@pytest.fixture(scope="session", params=["fused", "portable"])
def style(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def everything(everything_folders: Callable[[str, str], Path], family: str, style: str) -> Path:
    return everything_folders(family, style)


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    return Graphs(tmp_path_factory.mktemp("graphs"))


@pytest.fixture(scope="session")
def bert_tuned(tuned_folders: Folders) -> Path:
    return tuned_folders("bert")


@pytest.fixture(scope="session")
def bert_pruned(pruned_folders: Folders) -> Path:
    return pruned_folders("bert")


@pytest.fixture(scope="session")
def bert_exported(exported_folders: Folders) -> Path:
    return exported_folders("bert")


@pytest.fixture(scope="session")
def bert_dense(dense_folders: Folders) -> Path:
    return dense_folders("bert")
