"""Lower precisions of an fp32 graph, each a list of passes over one graph in memory, and the tables of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..configs import Precision
from ..errors import UserError
from ..evaluation.inputs import Batch
from ..progress import tell
from . import files, probe
from .passes import activation, attention, blocks, dynamic, half, outliers, rounding, static, tied_vocabulary


@dataclass(frozen=True)
class Rules:
    """What a target's arithmetic asks for."""

    reduce_range: bool
    """7-bit weights, for CPUs without VNNI, whose 16-bit sums of U8S8 products saturate."""
    signed_activations: bool
    """Static int8 with signed activations, which ARM multiplies faster."""
    block_size: int
    """Weights of int4 that share a scale."""

    @property
    def levels(self) -> int:
        """The largest int8 weight."""
        return 64 if self.reduce_range else 127


Samples = Callable[[], list[Batch]]
"""Padded batches of training examples, for precisions that have to see some."""


@dataclass
class Work:
    """A graph on its way to a lower precision."""

    model: Any
    """An OnnxModel, which each pass changes."""
    rules: Rules
    samples: Samples
    batches: list[Batch] = field(default_factory=list)
    """Examples that the passes look at, once one of them has asked for some."""
    figures: dict[str, Any] = field(default_factory=dict)
    """What is noted in the export's metrics."""


Pass = Callable[[Work], None]
Passes = dict[Precision, tuple[Pass, ...]]
"""How each precision below fp32 is made from it."""


def lower(model: Any, passes: tuple[Pass, ...], rules: Rules, samples: Samples) -> dict[str, Any]:
    """Take an OnnxModel in fp32 through `passes`; returns what is noted in the export's metrics."""
    work = Work(model, rules, samples)
    for one in passes:
        one(work)
    return work.figures


def examples(work: Work) -> None:
    """Look at training examples; UserError if there are none."""
    work.batches = work.samples()


def examples_or_none(work: Work) -> None:
    """Look at training examples, if they are still there."""
    try:
        work.batches = work.samples()
    except UserError as error:
        tell(f"int8 is rounded without a look at examples: {error}")


def examples_or_random_tokens(work: Work) -> None:
    """Look at training examples, or at random tokens where there are none."""
    looked_at = "training examples"
    try:
        work.batches = work.samples()
    except UserError as error:
        tell(f"fp16's range is checked on random tokens: {error}")
    if not work.batches:
        work.batches, looked_at = probe.random_examples(work.model.model.graph), "random tokens"
    work.figures["range_of"] = looked_at


def fp16(work: Work) -> None:
    """Weights and arithmetic in fp16, but for what goes beyond its range on the examples: see `half`."""
    work.figures |= half.convert(work.model, work.batches)


def equalise(work: Work) -> None:
    """Bring channels that are far larger than the others on the examples to size: see `outliers`."""
    found = outliers.equalise(work.model, work.batches, work.rules.levels) if work.batches else None
    work.figures["equalised"] = found


def attention_apart(work: Work) -> None:
    """Products of attention that every quantiser knows: see `attention`."""
    attention.separate_all(work.model)


def int8(work: Work) -> None:
    """Weights in int8, and activations quantised as they come; rounded to fit the examples, if there are some.

    Decoders have none. Weights in int8 blocks, as int4 has them, would add a third of the noise there, and take 1.2
    times as long for a step and 2.5 times as long for a prompt (AVX2).
    """
    quantised = files.copied(work.model)
    dynamic.quantise(quantised, reduce_range=work.rules.reduce_range)
    if work.batches:
        rounding.fit(quantised, work.model, work.batches)
    work.model.initialize(quantised.model)
    work.figures["reduce_range"] = work.rules.reduce_range


def int8_look_ups(work: Work) -> None:
    """Embeddings in int8."""
    dynamic.quantise(work.model, reduce_range=work.rules.reduce_range, operators=dynamic.LOOK_UPS)


def int8_in_ranges(work: Work) -> None:
    """Products in int8 with ranges of activations from the examples, but for those that hurt: see `static`."""
    options = {"reduce_range": work.rules.reduce_range, "signed": work.rules.signed_activations}
    work.figures |= static.calibrate(work.model, work.batches, **options)
    work.figures["reduce_range"] = work.rules.reduce_range


def head_transposed(work: Work) -> None:
    """The vocabulary's scores by a weight that quantisers know: see `tied_vocabulary`."""
    tied_vocabulary.store_transposed(work.model)


def int8_head(work: Work) -> None:
    """The vocabulary in int8 blocks."""
    blocks.quantise_head(work.model, work.rules.block_size)


def int4(work: Work) -> None:
    """Weights of products in int4 blocks."""
    blocks.quantise(work.model, work.rules.block_size)
    work.figures["block_size"] = work.rules.block_size


def approximate_gelu(work: Work) -> None:
    """GELU by its approximation: see `activation`."""
    activation.approximate_gelu(work.model)


ENCODER: Passes = {
    "fp16": (examples_or_random_tokens, fp16),
    "int8": (examples_or_none, equalise, int8, approximate_gelu),
    "int8_static": (examples, attention_apart, int8_look_ups, approximate_gelu, equalise, int8_in_ranges),
    "int4": (attention_apart, int8_look_ups, approximate_gelu, int4),
}
DECODER: Passes = {
    "fp16": (examples_or_random_tokens, fp16),
    "int8": (head_transposed, int8, approximate_gelu),
    "int4": (head_transposed, int8_head, int4, int8_look_ups, approximate_gelu),
}
