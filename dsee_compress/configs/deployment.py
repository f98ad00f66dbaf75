"""Options of the stages that export, prove, measure and deploy."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ..option_types import (
    LARGEST_COUNT,
    Batch,
    Batches,
    Count,
    Lengths,
    Place,
    Places,
    Real,
    Seed,
    ThreadCounts,
    Threads,
    Whole,
    split_commas,
)
from ..strict import StrictConfig
from .names import Graph, LayoutName, Precision

OPSETS: dict[Graph, range] = {"fused": range(17, 25), "portable": range(23, 25)}
"""Operator sets of each graph style: ONNX's own `Attention` came with 23."""
Precisions = Annotated[list[Precision], BeforeValidator(split_commas)]


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
    layout: LayoutName = Field(
        "optimum",
        description="Who finds the files where they are looked for: optimum (and transformers' pipelines), "
        "transformers.js (in Node and in a browser), or sentence-transformers (a CrossEncoder, for pairs of texts).",
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


class PushConfig(StrictConfig):
    """Options of `push`."""

    license: str | None = Field(
        None,
        pattern="^[a-z0-9][a-z0-9.+-]*$",
        description="The licence that the card names, as the hub spells it: apache-2.0, mit, other. None if not given.",
    )
    private: bool = Field(
        False, description="Make a new repository private; one that is there stays as visible as it is."
    )


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
