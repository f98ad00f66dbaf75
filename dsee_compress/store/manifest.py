"""What a stage folder says of itself: `dsee.json`, with a model of its own for each stage."""

import json
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator

from ..configs import (
    BundleConfig,
    ExportConfig,
    FinetuneConfig,
    Graph,
    LayoutName,
    Precision,
    PruneConfig,
    Role,
    UpdateConfig,
)
from ..errors import UserError
from ..strict import StrictConfig
from ..tasks import Spec
from . import folders
from .folders import MANIFEST
from .stage_metrics import BundleMetrics, ExportMetrics, FinetuneMetrics, Metrics, PruneMetrics
from .structure import Structure
from .versions import of_libraries

SCHEMA = 1
Stage = Literal["finetune", "prune", "export", "bundle"]


class Parent(StrictConfig):
    """The stage folder that a folder was made from."""

    path: str
    """Relative to the folder, so that a run can be moved as a whole."""
    fingerprint: str


class Manifest(StrictConfig):
    """The content of `dsee.json`, as far as that of all stages is alike."""

    options: ClassVar[type[StrictConfig]] = StrictConfig
    """What `config` holds the values of."""

    format: int = Field(SCHEMA, alias="schema")
    stage: Stage
    config: dict[str, Any]
    architecture: str
    base: str
    """The pretrained model, as the user named it."""
    task: Spec
    structure: Structure
    parent: Parent | None
    inputs: dict[str, str]
    """SHA-256 of what came from outside: the model, the data."""
    versions: dict[str, str]
    seed: int
    metrics: Metrics
    files: list[str] | None = None
    """Paths in the folder of what the stage wrote beside this; None in folders of before it was listed."""

    @classmethod
    def child_of(cls, parent: "Manifest", link: Parent, **own: Any) -> Self:
        """The manifest of a folder made from `parent`'s: what both share, and what is its own."""
        return cls(
            architecture=parent.architecture,
            base=parent.base,
            task=parent.task,
            parent=link,
            versions=of_libraries(),
            **own,
        )

    @classmethod
    def read(cls, folder: Path, *stages: Stage) -> Self:
        """That of `folder`; UserError if it is missing, broken, newer, or neither this stage's nor one of `stages`."""
        path = folder / MANIFEST
        if not folder.is_dir():
            if folders.beside(folder, "replaced").is_dir():
                raise UserError(
                    f"{folder} was being replaced when that was killed; run the command that writes it again"
                )
            raise UserError(f"there is no folder {folder}; give the output of an earlier stage")
        if not path.is_file():
            raise UserError(f"{folder} is not a stage folder: it has no {MANIFEST}")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            version = content["schema"]
            if version > SCHEMA:
                raise UserError(
                    f"{path} has schema {version}, and this version of dsee-compress reads up to {SCHEMA}; upgrade it"
                )
            manifest = OF_STAGE[content["stage"]].model_validate(content)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{path} is damaged; write the folder again") from error
        wanted = stages or [stage for stage, kind in OF_STAGE.items() if issubclass(kind, cls)]
        if manifest.stage not in wanted:
            raise UserError(f"{folder} is the output of {manifest.stage}; this needs that of {' or '.join(wanted)}")
        assert isinstance(manifest, cls)
        return manifest

    def write(self, folder: Path) -> None:
        """Write it into `folder`, last of all: it lists what is there."""
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        content = self.model_copy(update={"files": files}).model_dump(mode="json", by_alias=True)
        folders.write_json(folder / MANIFEST, content)


class _Update(UpdateConfig, extra="ignore"):
    """The options that tell what is in adapter.safetensors."""

    model: str
    slimming: float = Field(0.0, ge=0)
    rank: int = Field(ge=0)
    sparse: int = Field(ge=0)
    alpha: float = Field(gt=0)
    targets: list[Role] = Field(min_length=1)


class FinetuneManifest(Manifest):
    """Of an adapter folder."""

    options = FinetuneConfig
    stage: Literal["finetune"] = "finetune"
    metrics: FinetuneMetrics

    @field_validator("config")
    @classmethod
    def _tells_of_updates(cls, config: dict[str, Any]) -> dict[str, Any]:
        _Update.model_validate(config)
        return config


class PruneManifest(Manifest):
    """Of a pruned model's folder."""

    options = PruneConfig
    stage: Literal["prune"] = "prune"
    metrics: PruneMetrics


class _Artifacts(StrictConfig, extra="ignore"):
    """The options that tell which files there are."""

    target: str
    graph: Graph
    opset: int
    precision: list[Precision] = Field(min_length=1)
    layout: LayoutName = "optimum"


class ExportManifest(Manifest):
    """Of an ONNX folder."""

    options = ExportConfig
    stage: Literal["export"] = "export"
    metrics: ExportMetrics

    @field_validator("config")
    @classmethod
    def _tells_of_artifacts(cls, config: dict[str, Any]) -> dict[str, Any]:
        _Artifacts.model_validate(config, strict=True)
        return config


class BundleManifest(Manifest):
    """Of a device's folder."""

    options = BundleConfig
    stage: Literal["bundle"] = "bundle"
    metrics: BundleMetrics


OF_STAGE: dict[Stage, type[Manifest]] = {
    "finetune": FinetuneManifest,
    "prune": PruneManifest,
    "export": ExportManifest,
    "bundle": BundleManifest,
}
