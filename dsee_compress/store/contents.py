"""What the manifest of each stage has to say for its readers: options, figures, and a structure that can be one."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..configs import Graph, Precision, Role, UpdateConfig
from ..tasks import Measured


class _Said(BaseModel):
    """Of what a manifest says, the part that is read; the rest is for people."""

    model_config = ConfigDict(extra="ignore", strict=True, protected_namespaces=())


class _Update(UpdateConfig):
    """The options that tell what is in adapter.safetensors."""

    model_config = ConfigDict(extra="ignore")

    model: str
    slimming: float = Field(0.0, ge=0)
    rank: int = Field(ge=0)
    sparse: int = Field(ge=0)
    alpha: float = Field(gt=0)
    targets: list[Role] = Field(min_length=1)


class _Artifacts(_Said):
    target: str
    graph: Graph
    opset: int
    precision: list[Precision] = Field(min_length=1)


class _Training(_Said):
    seconds: float
    device: str


class _Tuned(_Said):
    trainable_parameters: int
    trainable_fraction: float
    task_head_parameters: int
    base_parameters: int
    training: _Training
    validation: dict[Measured, float]


class _Flops(_Said):
    saved: float
    sequence_length: int


class _Retraining(_Said):
    seconds: float = 0.0


class _Pruned(_Said):
    merge_max_abs: float
    removal_max_abs: float
    label_agreement: float | None
    weight_sparsity: float
    flops: _Flops
    parameters: int
    training: _Retraining
    validation: dict[Measured, float]


class _Fused(_Said):
    attention: int
    gelu: int


class _Narrowed(_Said):
    nodes: int
    attention: int


class _Static(_Said):
    fp32_nodes: list[str]


class _Vocabulary(_Said):
    before: int
    after: int = Field(ge=1)
    parameters_removed: int


class _Exported(_Said):
    kind: Literal["dense", "pruned"]
    target: dict[str, Any] = Field(min_length=1)
    fp32: _Fused
    export_max_abs: float
    label_agreement: float | None
    narrowed: _Narrowed = _Narrowed(nodes=0, attention=0)
    int8_static: _Static | None = None
    vocabulary: _Vocabulary | None = None
    memory_bytes_per_token: int | None = None


class _Bundled(_Said):
    artifact: str


_CONFIGS: dict[str, type[BaseModel]] = {"finetune": _Update, "export": _Artifacts}
_METRICS: dict[str, type[BaseModel]] = {
    "finetune": _Tuned,
    "prune": _Pruned,
    "export": _Exported,
    "bundle": _Bundled,
}


def check(stage: str, config: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """Raise ValueError unless a manifest's options and figures are such as `stage` writes."""
    if stage in _CONFIGS:
        _CONFIGS[stage].model_validate(config)
    _METRICS[stage].model_validate(metrics)


def check_structure(heads: list[list[int]], neurons: list[list[int]]) -> None:
    """Raise ValueError unless both tell of the same layers, each with indices that rise."""
    if not heads or len(heads) != len(neurons):
        raise ValueError(f"{len(heads)} layers of heads and {len(neurons)} of neurons")
    for kept in [*heads, *neurons]:
        if kept != sorted({*kept}) or (kept and kept[0] < 0):
            raise ValueError(f"{kept} are no indices that rise")
