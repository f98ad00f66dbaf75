"""One strict model a stage: the same options for the shell, a recipe and a notebook.

Each field carries its help. An unknown key is an error that names the nearest known one.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from . import tasks
from .option_types import (
    LARGEST_COUNT,
    Batch,
    Batches,
    Count,
    Entries,
    EntryCounts,
    Fraction,
    Length,
    Lengths,
    Place,
    Places,
    Rank,
    Ranks,
    Real,
    Scale,
    Scales,
    Seed,
    ThreadCounts,
    Threads,
    Whole,
    from_base_60,
    split_commas,
)
from .strict import StrictConfig
from .tasks import MetricName, TaskName, classification, generation

Role = Literal["query", "key", "value", "attention_output", "ffn_in", "ffn_gate", "ffn_out"]
Precision = Literal["fp32", "fp16", "int8", "int8_static", "int4"]
Graph = Literal["fused", "portable"]
Decomposition = Literal["grebsmo", "magnitude", "random", "svd"]
Criterion = Literal["auto", "delta", "combined", "magnitude", "slimming", "taylor", "random"]
_GOALS = ("flops_saved", "heads", "neurons", "weights", "semi_structured")

OPSETS: dict[Graph, range] = {"fused": range(17, 25), "portable": range(23, 25)}
"""Operator sets of each graph style: ONNX's own `Attention` came with 23."""


Precisions = Annotated[list[Precision], BeforeValidator(split_commas)]


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
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="Arithmetic in training; auto is bf16 on a CUDA card that has it, else fp32."
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


class PruneConfig(_TrainingConfig):
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
    sequence_length: Length = Field(128, description="Tokens for which flops_saved counts.")
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


class ExportConfig(StrictConfig):
    """Options of `export`."""

    target: Place = Field(
        "auto",
        description="What the model is for: x86-avx2, x86-vnni, arm64, cuda, mobile, or a YAML file of your own; "
        "auto is this machine's CPU.",
    )
    precision: Precisions | None = Field(
        None,
        min_length=1,
        description="Artifacts to write: fp32, fp16, int8 (dynamic), int8_static (calibrated on training examples), "
        "int4 (weights alone); the target's if not given.",
    )
    graph: Graph | None = Field(
        None,
        description="Operators: fused (ONNX Runtime's own, fastest on the CPU) or portable (ONNX's alone); "
        "the target's if not given.",
    )
    opset: Whole | None = Field(
        None,
        ge=17,
        le=24,
        description="ONNX operator set: 17 to 24 for fused (18 if not given), 23 or 24 for portable.",
    )
    block_size: Whole = Field(32, ge=16, le=256, description="Weights of int4 that share a scale, a power of two.")
    trim_vocabulary: Place | None = Field(
        None,
        description="Keep only the tokens of this data's train split, and the pieces that spell all other words; a "
        "folder or a hub id, as for finetune. A decoder then writes in these alone.",
    )
    keep_texts: Place | None = Field(
        None, description="A text file: the tokens of its lines stay in the vocabulary, too."
    )

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        if self.opset is not None and self.graph is not None and self.opset not in OPSETS[self.graph]:
            known = OPSETS[self.graph]
            raise ValueError(
                f"opset {self.opset} is not among {known[0]} to {known[-1]}, those of a {self.graph} graph"
            )
        if self.block_size & (self.block_size - 1):
            raise ValueError(f"block_size {self.block_size} is no power of two")
        if self.keep_texts is not None and self.trim_vocabulary is None:
            raise ValueError("keep_texts adds to what trim_vocabulary keeps, which is not given")
        return self


class DecodingConfig(StrictConfig):
    """How a model writes: the likeliest token at each step, or the best of some beams. No choice is random."""

    beams: Whole = Field(1, ge=1, le=1024, description="For generation: beams of the search; 1 is greedy.")
    length_penalty: Real = Field(
        1.0,
        ge=-100,
        le=100,
        description="Power of the length by which a beam's score is divided; above 0 favours long texts.",
    )
    no_repeat_ngram: Whole = Field(
        0, ge=0, le=LARGEST_COUNT, description="Tokens of which no sequence is written twice; 0 allows all."
    )
    max_new_tokens: Count = Field(64, description="Tokens after which a text is cut.")

    @model_validator(mode="after")
    def _length_penalty_is_of_beams(self) -> Self:
        if self.length_penalty != 1 and self.beams == 1:
            raise ValueError(f"length_penalty {self.length_penalty} is about the scores of beams, and beams is 1")
        return self


class ValidateConfig(DecodingConfig):
    """Options of `validate`."""

    data: Place | None = Field(None, description="As for finetune; the data of the fine-tuning if not given.")
    split: Literal["validation", "test"] = Field("validation", description="Split to measure on.")
    batch_size: Batch = Field(32, description="Examples a forward pass.")
    max_drop: Real = Field(
        0.01, ge=0, le=1_000_000, description="Drop of the metric, in its own unit, that a precision may cost."
    )
    max_compression_drop: Real = Field(
        0.02, ge=0, le=1_000_000, description="Drop of the metric that the whole way may cost."
    )
    seed: Seed = Field(0, description="Seed of the bootstrap.")


class BenchmarkConfig(StrictConfig):
    """Options of `benchmark`."""

    baseline: Place | None = Field(None, description="Export folder that every artifact is compared with.")
    compare: Places | None = Field(
        None, description="Other folders with ONNX models, ours or not, to be measured in the same turns."
    )
    batch: Batches = Field([1], description="Sequences a call; several make a grid with the lengths and threads.")
    sequence_length: Lengths = Field([128], description="Tokens a sequence; of decoders, a prompt.")
    new_tokens: Count = Field(32, description="Of decoders: steps of one token that follow a prompt.")
    threads: ThreadCounts | None = Field(None, description="Intra-op threads; the physical cores if not given.")
    samples: Whole = Field(100, ge=10, le=LARGEST_COUNT, description="Timed calls an artifact.")
    rounds: Count = Field(5, description="Blocks into which the samples are divided; artifacts take turns.")
    warmup: Whole = Field(5, ge=0, le=LARGEST_COUNT, description="Untimed calls at the start of a block.")
    provider: Literal["cpu", "cuda"] | None = Field(
        None, description="ONNX Runtime execution provider; that of the export's target if not given."
    )
    seed: Seed = Field(0, description="Seed of the inputs and of the bootstrap.")

    @model_validator(mode="after")
    def _samples_fill_rounds(self) -> Self:
        if self.rounds > self.samples:
            raise ValueError(f"{self.samples} samples do not fill {self.rounds} rounds")
        return self


class BundleConfig(StrictConfig):
    """Options of `bundle`."""

    precision: Precision | None = Field(
        None, description="Artifact to take; int8 if the export has it, else its first, if not given."
    )
    max_new_tokens: Count = Field(64, description="For generation: tokens after which a text is cut.")


class GenerateConfig(DecodingConfig):
    """Options of `generate`."""

    temperature: Real = Field(
        0.0,
        ge=0,
        le=100,
        description="Draw tokens at random by their probabilities, sharpened below 1; 0 takes the likeliest.",
    )
    top_p: Real = Field(
        1.0, gt=0, le=1, description="Of random choices: together, the tokens drawn from are at least so likely."
    )
    precision: Precision | None = Field(None, description="Artifact to write with; the export's first if not given.")
    threads: Threads | None = Field(None, description="Intra-op threads; ONNX Runtime's choice if not given.")
    batch_size: Batch = Field(8, description="Texts written side by side, where none is told as it is written.")
    seed: Seed = Field(0, description="Seed of random choices.")

    @model_validator(mode="after")
    def _one_search(self) -> Self:
        if self.temperature and self.beams > 1:
            raise ValueError("temperature draws at random, and beams search for the best; choose one")
        if self.top_p < 1 and not self.temperature:
            raise ValueError(f"top_p {self.top_p} is about random choices, and temperature is 0")
        return self


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
