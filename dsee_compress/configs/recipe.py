"""A recipe: the options of all stages of a run, and what they ask of each other."""

from typing import Self

from pydantic import Field, model_validator

from .. import tasks
from ..strict import StrictConfig
from .deployment import BenchmarkConfig, ExportConfig, ValidateConfig
from .training import FinetuneConfig, PruneConfig


class RunConfig(StrictConfig):
    """A recipe: the options of every stage of one run."""

    finetune: FinetuneConfig
    prune: PruneConfig = PruneConfig()
    export: ExportConfig = ExportConfig()
    validation: ValidateConfig = Field(ValidateConfig(), alias="validate")
    benchmark: BenchmarkConfig = BenchmarkConfig()

    @model_validator(mode="after")
    def _criterion_finds_what_it_scores(self) -> Self:
        scored = {"query", "value"} & {*self.finetune.targets}
        if self.prune.criterion == "delta" and self.prune.structured and not scored:
            raise ValueError("prune.criterion delta scores heads by the updates of finetune.targets query and value")
        if self.prune.criterion == "slimming" and not self.finetune.slimming:
            raise ValueError("prune.criterion slimming needs the coefficients of finetune.slimming, which is 0")
        return self

    @model_validator(mode="after")
    def _classes_alone_are_smoothed(self) -> Self:
        labels = tasks.get(self.finetune.task).unsmoothed
        for section in ("finetune", "prune"):
            if getattr(self, section).label_smoothing and labels:
                raise ValueError(f"{section}.label_smoothing is about classes and tokens, not {labels}")
        return self
