"""What each stage measured, as its manifest says it. What is not named here is kept, for people to read."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from ..tasks import Measured


class Metrics(BaseModel):
    """What was measured, or a part of it; written as it was given, so what was not measured does not appear."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, protected_namespaces=())

    @model_serializer(mode="wrap")
    def _as_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        return {name: value for name, value in content.items() if name in self.model_fields_set}


class Retraining(Metrics):
    """The last training of `prune`, with the time of all; there may have been none."""

    seconds: float = 0.0
    device: str | None = None
    steps: int | None = None
    precision: str | None = None
    processes: int | None = None
    loss: float | None = None
    """Mean of the last epoch."""


class Training(Retraining):
    """A training that there was."""

    seconds: float
    device: str


class Fed(Metrics):
    """What the tokenizer gives the model."""

    inputs: list[str]
    padding: int | None


class FinetuneMetrics(Metrics):
    """Of `finetune`, and of a LoRA adapter that came from PEFT."""

    trainable_parameters: int
    """Of the updates; the task head's are beside it."""
    trainable_fraction: float
    task_head_parameters: int
    base_parameters: int
    fed: Fed | None = None
    training: Training
    validation: dict[Measured, float]


class FlopsMetrics(Metrics):
    """FLOPs of one sequence before and after, the latter also as exported."""

    saved: float
    sequence_length: int
    dense: int | None = None
    final: int | None = None
    exported: int | None = None
    exported_saved: float | None = None
    first_token: bool | None = None


class OrderMetrics(Metrics):
    """What a device allows, and what the table says that the model takes of it."""

    order: Literal["latency", "speedup", "size"]
    unit: Literal["ms", "MB"]
    budget: float
    dense: float
    predicted: float
    target: str
    precision: str
    provider: str | None = None
    threads: int | None = None
    batch: int | None = None
    sequence_length: int | None = None


class PruneMetrics(Metrics):
    """Of `prune`."""

    merge_max_abs: float
    removal_max_abs: float
    label_agreement: float | None
    """None where labels are numbers."""
    weight_sparsity: float
    flops: FlopsMetrics
    order: OrderMetrics | None = None
    parameters: int
    training: Retraining
    validation: dict[Measured, float]


class NodeMetrics(Metrics):
    """The nodes of a graph."""

    attention: int
    gelu: int
    unfused: int | None = None
    nodes: int | None = None


class Fp16Metrics(NodeMetrics):
    """A graph in fp16."""

    fp32_nodes: list[str] | None = None
    """What stays in fp32; None in folders of before fp16 looked at examples."""
    signal_to_noise_db: float | None = None
    range_of: str | None = None


class Int8Metrics(NodeMetrics):
    """A graph in int8 with activations quantised as they come."""

    reduce_range: bool
    equalised: list[str] | None = None
    """Products whose outliers were brought to size; None where no examples were seen."""


class StaticInt8Metrics(Int8Metrics):
    """A graph in int8 with activations in fixed ranges."""

    fp32_nodes: list[str]
    """Products that stay in fp32."""
    signal_to_noise_db: float | None = None


class Int4Metrics(NodeMetrics):
    """A graph with int4 weights."""

    block_size: int | None = None


class NarrowedMetrics(Metrics):
    """How many nodes compute the first token alone."""

    nodes: int = 0
    attention: int = 0
    """Those among them that are a layer's attention."""


class VocabularyMetrics(Metrics):
    """What trimming left."""

    before: int
    after: int = Field(ge=1)
    parameters_removed: int


class ExportMetrics(Metrics):
    """Of `export`."""

    kind: Literal["dense", "pruned"]
    merge_max_abs: float | None = None
    """Of a dense model, whose update was merged for the export."""
    vocabulary: VocabularyMetrics | None = None
    narrowed: NarrowedMetrics = NarrowedMetrics()
    memory_bytes_per_token: int | None = None
    """What a decoder remembers, in fp32."""
    fp32: NodeMetrics
    export_max_abs: float
    label_agreement: float | None
    fp16: Fp16Metrics | None = None
    int8: Int8Metrics | None = None
    int8_static: StaticInt8Metrics | None = None
    int4: Int4Metrics | None = None
    target: dict[str, Any] = Field(min_length=1)
    """The options of the target."""


class BundleMetrics(Metrics):
    """Of `bundle`."""

    artifact: str
