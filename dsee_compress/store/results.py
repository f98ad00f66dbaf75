"""validation.json and benchmark.json as their readers need them; whatever else stands in them is kept."""

import json
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..configs import ValidateConfig
from ..tasks import Measured, MetricName
from .stage_metrics import OrderMetrics

VALIDATION, BENCHMARK = "validation.json", "benchmark.json"
WRITING = (
    "new_tokens",
    "time_to_first_token_ms",
    "decode_ms_per_token",
    "tokens_per_second",
    "memory_bytes_per_token",
    "decode",
)
"""What a row has of a decoder, and of no other model."""


class Known(BaseModel):
    """A part of a file of which more may be said than is known here."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class Interval(Known):
    """A figure with its 95 % interval."""

    value: float
    ci95: list[float] = Field(min_length=2, max_length=2)


class Calls(Known):
    """What was timed of calls of one kind."""

    samples: int = Field(ge=1)
    mean_ms: float
    stdev_ms: float
    p50_ms: float = Field(gt=0)
    p90_ms: float
    p95_ms: float
    p99_ms: float
    throughput: float
    raw_ms: list[Annotated[list[float], Field(min_length=1)]] = Field(min_length=1)
    """Milliseconds of every call, (rounds, samples a round)."""


class Row(Calls):
    """One artifact as measured, with the names of report.json's own rows; of decoders the calls read a prompt."""

    artifact: str
    provider: str
    threads: int = Field(ge=1)
    batch: int = Field(ge=1)
    sequence_length: int = Field(ge=1)
    peak_rss_mb: float
    size_mb: float
    cold_start_ms: float
    new_tokens: int | None = Field(None, ge=1)
    time_to_first_token_ms: float | None = Field(None, gt=0)
    decode_ms_per_token: float | None = Field(None, gt=0)
    tokens_per_second: float | None = Field(None, gt=0)
    memory_bytes_per_token: int | None = Field(None, ge=0)
    decode: Calls | None = None

    @model_validator(mode="after")
    def _all_of_writing(self) -> Self:
        missing = [name for name in WRITING if getattr(self, name) is None]
        if 0 < len(missing) < len(WRITING):
            raise ValueError(f"{missing[0]} is missing beside the other figures of a decoder")
        return self


class Environment(Known):
    """The machine that measured."""

    cpu: str
    system: str
    libraries: dict[str, str]


class _Compared(Calls):
    speedup: Interval


class _Size(Known):
    artifact: str
    baseline: bool
    size_mb: float
    zipped_mb: float


class _ComparedRow(Row):
    speedup: Interval
    baseline: bool
    zipped_mb: float
    decode: _Compared | None = None


class _Place(Environment):
    provider: str
    threads: int


class _Asked(Known):
    sequence_length: list[int] = Field(min_length=1)


class _BenchmarkKey(Known):
    folder: str
    config: _Asked


class _Ordered(Known):
    order: OrderMetrics
    measured: Interval
    off: float
    """How far from the predicted figure, relative to it."""


class _Benchmark(Known):
    key: _BenchmarkKey
    reference: str
    turns: str
    not_measured: str
    latency: list[_ComparedRow]
    grid: list[_ComparedRow]
    size: list[_Size] = Field(min_length=1)
    cost: _Ordered | None = None
    environment: _Place

    @model_validator(mode="after")
    def _of_the_same_artifacts(self) -> Self:
        names = {size.artifact for size in self.size}
        rows = {row.artifact for row in [*self.latency, *self.grid]}
        if self.reference not in names or rows != (set() if self.not_measured else names):
            raise ValueError("the figures are of different artifacts")
        return self


class _ValidationKey(Known):
    folder: str
    data: str
    config: ValidateConfig


class _Gate(Known):
    gate: str
    reference: str
    candidate: str
    change: Interval | None
    """None where this machine could not ask the candidate."""
    allowed_drop: float
    verdict: str


class _Reader(Known):
    reader: str
    versions: dict[str, str]
    artifact: str
    not_tried: str | None = None
    """Why, of a reader that was not asked."""
    texts: int | None = None
    compared: str | None = None
    max_abs: float | None = None

    @model_validator(mode="after")
    def _tried_or_not(self) -> Self:
        if (self.not_tried is None) == (self.texts is None or self.compared is None or self.max_abs is None):
            raise ValueError("a reader was either tried or not")
        return self


class _Validation(Known):
    key: _ValidationKey
    metric: MetricName
    split: str
    examples: int
    examples_alike: int
    accuracy: dict[str, Interval] = Field(min_length=1)
    other_metrics: dict[str, dict[Measured, float]]
    parity: dict[str, float | None]
    gates: list[_Gate]
    readers: list[_Reader] = []
    predictions: dict[str, list[Any]]

    @model_validator(mode="after")
    def _of_the_same_models(self) -> Self:
        others = [set(metrics) for metrics in self.other_metrics.values()]
        if not self.accuracy.keys() == self.other_metrics.keys() == self.predictions.keys():
            raise ValueError("the figures are of different models")
        if any(other != others[0] for other in others):
            raise ValueError("the models have different metrics")
        if self.parity and self.parity.keys() != {"export_max_abs", "label_agreement"}:
            raise ValueError("the proof of the export has other figures")
        return self


_KINDS: dict[str, type[Known]] = {VALIDATION: _Validation, BENCHMARK: _Benchmark}


def read(path: Path) -> dict[str, Any]:
    """The content of a validation.json or benchmark.json; ValueError if it is not what the stage writes."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _KINDS[path.name].model_validate(content)
    except (ValidationError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged") from error
    return content
