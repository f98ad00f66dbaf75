"""Options of the stages that train."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from .. import tasks
from ..option_types import (
    Batch,
    Count,
    Entries,
    EntryCounts,
    Fraction,
    Length,
    Place,
    Rank,
    Ranks,
    Real,
    Scale,
    Scales,
    Seed,
    Threads,
    Whole,
    from_base_60,
    split_commas,
)
from ..strict import StrictConfig
from ..tasks import MetricName, TaskName, classification, generation
from .names import Criterion, Decomposition, Precision, Role, Tracker

ORDERS = ("latency", "speedup", "size")
"""Goals of a device."""
_GOALS = ("flops_saved", "heads", "neurons", "weights", "semi_structured", *ORDERS)


def _by_pattern(option: str, example: str) -> str:
    return f"Another {option} for the Linears whose name, `3.query` say, a pattern matches at its end: {example}."


class _TrainingConfig(StrictConfig):
    batch_size: Batch = Field(32, description="Examples a training step, of each process.")
    learning_rate: Real = Field(1e-3, gt=0, le=1000, description="Peak learning rate of AdamW; linear decay.")
    warmup: Fraction = Field(0.06, description="Share of the steps over which the learning rate rises.")
    weight_decay: Real = Field(0.01, ge=0, le=10, description="AdamW's weight decay.")
    label_smoothing: Fraction = Field(
        0.0, description="Share of the loss that asks for all classes, or tokens, alike; not for regression."
    )
    seed: Seed = Field(0, description="Seed of the initial update, the dropout and the order of examples.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where to train; auto takes CUDA if it is there."
    )
    mixed_precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="Arithmetic in training; auto is bf16 on a CUDA card that has it, else fp32."
    )
    report_to: Annotated[list[Tracker], BeforeValidator(split_commas)] | None = Field(
        None,
        exclude=True,  # a model is the same whoever is told of its training
        description="Who is told of loss and learning rate after each epoch: tensorboard (in OUTPUT.tensorboard, "
        "beside the output), wandb, mlflow; nobody if not given.",
    )


class UpdateConfig(StrictConfig):
    """What the updates look like: U V of rank r, N entries of S2, scaled by alpha / r, on the targets.

    Patterns override the default where they match the end of a Linear's name, `3.query` say, from a dot or the start
    on; of several that match, the first counts (as PEFT's `rank_pattern`).
    """

    rank: Rank = Field(8, description="Rank r of the low-rank update U V.")
    sparse: Entries = Field(64, description="Trained entries N of the sparse residual S2, a matrix.")
    alpha: Scale = Field(16.0, description="The update is scaled by alpha / r.")
    targets: Annotated[list[Role], BeforeValidator(split_commas)] = Field(
        ["query", "value"],
        min_length=1,
        description="Linears that carry an update: " + ", ".join(get_args(Role)) + "; a gate where the FFN has one.",
    )
    rank_pattern: Ranks | None = Field(None, description=_by_pattern("rank", "query=16,[0-2].value=4"))
    sparse_pattern: EntryCounts | None = Field(None, description=_by_pattern("sparse", "ffn_in=0"))
    alpha_pattern: Scales | None = Field(None, description=_by_pattern("alpha", "query=32"))

    @model_validator(mode="after")
    def _some_update(self) -> Self:
        if len(set(self.targets)) < len(self.targets):
            raise ValueError(f"targets names one twice: {', '.join(self.targets)}")
        if not any(
            (self.rank, self.sparse, *(self.rank_pattern or {}).values(), *(self.sparse_pattern or {}).values())
        ):
            raise ValueError("rank and sparse are both 0, so nothing would be trained but the head")
        return self


class _Source(StrictConfig):
    model: Place = Field(description="A folder, a hub id, or package:NAME/FOLDER inside an installed package.")
    data: Place = Field(description="A folder with train and validation as jsonl, csv or parquet, or a hub id.")


class SourceConfig(classification.Options, generation.Options, _Source):
    """Where model and data come from, and what the data asks for."""

    task: TaskName = Field("classification", description=f"What the label is: {tasks.labels_in_words()}.")
    metric: MetricName | None = Field(
        None,
        description="What gates and intervals are about; the first of its task if not given, and the others are "
        f"reported beside it: {tasks.metrics_in_words()}.",
    )
    model_sha256: str | None = Field(
        None, pattern="^[0-9a-fA-F]{64}$", description="Refuse a model.safetensors with another SHA-256."
    )
    trust_remote_code: bool = Field(
        False,
        description="Run the Python that a model folder names for its config and tokenizer (auto_map). The model "
        "itself is always transformers' own of its family.",
    )

    @model_validator(mode="after")
    def _options_of_the_task(self) -> Self:
        tasks.require_fitting(self)
        return self


class FinetuneConfig(_TrainingConfig, UpdateConfig, SourceConfig):
    """Options of `finetune` (DSEE step I)."""

    decomposition: Decomposition = Field(
        "grebsmo",
        description="Where the entries of S2 stand: where GreBsmo's or a truncated SVD's low-rank part leaves most of "
        "the weight, where the weight is largest, or anywhere.",
    )
    slimming: Real = Field(
        0.0,
        ge=0,
        le=1000,
        description="Train a coefficient on every head and neuron under an L1 penalty of this strength, "
        "for prune --criterion slimming.",
    )
    epochs: Whole = Field(3, ge=1, le=100_000, description="Passes over the training data.")


class ImportPeftConfig(SourceConfig):
    """Options of `import-peft`."""

    batch_size: Batch = Field(32, description="Examples a forward pass of the validation.")


class OrderConfig(StrictConfig):
    """What a device allows, and how the model is called there."""

    latency: Real | None = Field(
        None, gt=0, le=1_000_000, description="A device's goal: milliseconds that a call may take on the target."
    )
    speedup: Real | None = Field(
        None,
        gt=1,
        le=1000,
        description="A device's goal: how many times as fast as the dense model, in the same precision on the target.",
    )
    size: Real | None = Field(None, gt=0, le=1_000_000, description="A device's goal: MB that the ONNX file may have.")
    target: Place = Field(
        "auto", description="For latency, speedup and size: as for export. Latency is measured on this machine."
    )
    precision: Precision | None = Field(
        None, description="For them: the artifact that is meant; int8, or what the target has instead, if not given."
    )
    batch: Batch = Field(1, description="For latency and speedup: sequences a call.")
    threads: Threads | None = Field(
        None, description="For latency and speedup: threads of a call; the target's if not given."
    )

    @property
    def order(self) -> str | None:
        """Which of `ORDERS` is given."""
        return next((name for name in ORDERS if getattr(self, name) is not None), None)

    @model_validator(mode="after")
    def _of_an_order(self) -> Self:
        usual = {name: OrderConfig.model_fields[name].default for name in ("target", "precision", "batch", "threads")}
        for name, default in usual.items():
            if self.order is None and getattr(self, name) != default:
                raise ValueError(f"{name} is about latency, speedup and size, and none of them is asked for")
        return self


class PruneConfig(OrderConfig, _TrainingConfig):
    """Options of `prune` (DSEE steps II and III)."""

    flops_saved: Fraction | None = Field(
        None,
        description="Share of the FLOPs to save: the same share of heads and of neurons goes. 0.25 if nothing else "
        "is asked for.",
    )
    heads: Fraction | None = Field(None, description="Instead: share of the attention heads to remove.")
    neurons: Fraction | None = Field(None, description="Instead: share of the FFN neurons to remove.")
    weights: Fraction | None = Field(None, description="Unstructured instead: share of single weights set to zero.")
    semi_structured: Annotated[str | None, BeforeValidator(from_base_60)] = Field(
        None,
        pattern="^[1-9][0-9]{0,4}:[1-9][0-9]{0,4}$",
        description="Semi-structured instead: 2:4 keeps two of every four neighbours in a row, and so on.",
    )
    criterion: Criterion = Field(
        "auto",
        description="Score: the update alone (delta), the weight alone (magnitude), both (combined), the loss's "
        "change without the unit (taylor), trained coefficients (slimming), random; auto is taylor for heads and "
        "neurons, combined for weights.",
    )
    allocation: Literal["per-layer", "global"] = Field(
        "per-layer", description="Remove the same share in every layer, or the lowest scores of the whole model."
    )
    round_to: Count = Field(1, description="Layers that lose neurons keep the nearest multiple of this.")
    sequence_length: Length = Field(128, description="Tokens for which flops_saved, latency and speedup count.")
    steps: Whole = Field(1, ge=1, le=1000, description="Steps in which to get there; each scores, removes and retunes.")
    retune_epochs: Whole = Field(2, ge=0, le=100_000, description="Passes over the training data after each step.")
    distill: bool = Field(
        False, description="Retune towards the answers and hidden states of the model before pruning, too."
    )

    @property
    def structured(self) -> bool:
        """Whether heads and neurons go, and not single weights."""
        return self.weights is None and self.semi_structured is None

    @model_validator(mode="before")
    @classmethod
    def _something_to_remove(cls, options: Any) -> Any:
        if isinstance(options, Mapping) and all(options.get(name) is None for name in _GOALS):
            return {**options, "flops_saved": 0.25}
        return options

    @model_validator(mode="after")
    def _one_goal(self) -> Self:
        given = [name for name in _GOALS if getattr(self, name) is not None]
        if len(given) > 1 and set(given) != {"heads", "neurons"}:
            raise ValueError(f"{' and '.join(given)} are different goals; choose one (heads and neurons go together)")
        if self.distill and not self.retune_epochs:
            raise ValueError("distill is about retuning, and retune_epochs is 0")
        if self.order is not None and (self.allocation != "per-layer" or self.round_to > 1):
            raise ValueError(
                f"{self.order} chooses what each layer keeps by what it costs on the target; leave allocation and "
                "round_to out"
            )
        if self.round_to > 1 and not self.structured:
            raise ValueError(f"round_to {self.round_to} is about neurons, and {given[0]} removes single weights")
        if self.criterion == "slimming" and not self.structured:
            raise ValueError("criterion slimming scores heads and neurons, not single weights")
        if self.steps > 1 and self.semi_structured is not None:
            raise ValueError("semi_structured is one pattern, which cannot be reached in steps")
        if self.weights is not None and self.criterion == "delta" and self.allocation == "global":
            raise ValueError(
                "criterion delta knows nothing of weights without an update, so it cannot rank those of different "
                "matrices; use allocation per-layer or another criterion"
            )
        if self.semi_structured is not None:
            kept, _, group = self.semi_structured.partition(":")
            if int(kept) >= int(group):
                raise ValueError(f"semi_structured {self.semi_structured} removes nothing")
        return self
