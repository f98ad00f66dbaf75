"""The options of the public functions, for type checkers: the same as in `configs`, which checks them when it runs.

An option of several values takes one alone, too.
"""

from typing import Literal, Required, TypedDict

from .configs import Criterion, Decomposition, Graph, LayoutName, Precision, Role, Tracker


class _TrainingOptions(TypedDict, total=False):
    batch_size: int
    learning_rate: float
    warmup: float
    weight_decay: float
    label_smoothing: float
    seed: int
    device: Literal["auto", "cpu", "cuda"]
    mixed_precision: Literal["auto", "fp32", "bf16", "fp16"]
    report_to: Tracker | list[Tracker] | None


class _SourceOptions(TypedDict, total=False):
    model: Required[str]
    data: Required[str]
    text: str | list[str] | None
    label: str | None
    task: str
    prompt: str | None
    metric: str | None
    positive: str | None
    model_sha256: str | None
    trust_remote_code: bool
    max_length: int


class FinetuneOptions(_TrainingOptions, _SourceOptions, total=False):
    """Of `finetune`."""

    rank: int
    sparse: int
    alpha: float
    targets: Role | list[Role]
    rank_pattern: dict[str, int] | None
    sparse_pattern: dict[str, int] | None
    alpha_pattern: dict[str, float] | None
    decomposition: Decomposition
    slimming: float
    epochs: int


class ImportPeftOptions(_SourceOptions, total=False):
    """Of `import_peft`."""

    batch_size: int


class PruneOptions(_TrainingOptions, total=False):
    """Of `prune`."""

    flops_saved: float | None
    heads: float | None
    neurons: float | None
    weights: float | None
    semi_structured: str | None
    latency: float | None
    speedup: float | None
    size: float | None
    target: str
    precision: Precision | None
    batch: int
    threads: int | None
    criterion: Criterion
    allocation: Literal["per-layer", "global"]
    round_to: int
    sequence_length: int
    steps: int
    retune_epochs: int
    distill: bool


class ExportOptions(TypedDict, total=False):
    """Of `export`."""

    target: str
    precision: Precision | list[Precision] | None
    graph: Graph | None
    opset: int | None
    layout: LayoutName
    block_size: int
    trim_vocabulary: str | None
    keep_texts: str | None


class _DecodingOptions(TypedDict, total=False):
    beams: int
    length_penalty: float
    no_repeat_ngram: int
    max_new_tokens: int


class ValidateOptions(_DecodingOptions, total=False):
    """Of `validate`."""

    data: str | None
    split: Literal["validation", "test"]
    batch_size: int
    max_drop: float
    max_compression_drop: float
    seed: int


class BenchmarkOptions(TypedDict, total=False):
    """Of `benchmark`."""

    baseline: str | None
    compare: str | list[str] | None
    batch: int | list[int]
    sequence_length: int | list[int]
    new_tokens: int
    threads: int | list[int] | None
    samples: int
    rounds: int
    warmup: int
    provider: Literal["cpu", "cuda"] | None
    seed: int


class BundleOptions(TypedDict, total=False):
    """Of `bundle`."""

    precision: Precision | None
    max_new_tokens: int


class PushOptions(TypedDict, total=False):
    """Of `push`."""

    license: str | None
    private: bool


class GenerateOptions(_DecodingOptions, total=False):
    """Of `generate`."""

    temperature: float
    top_p: float
    precision: Precision | None
    threads: int | None
    batch_size: int
    seed: int
