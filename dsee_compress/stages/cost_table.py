"""What every structure costs, from a few that are measured.

Graphs of the export's own kind are looked at that differ in the heads, or in the neurons, of all layers together. So
what a layer costs is measured where it runs: between the others, its weights as far from the processor as they will be.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from transformers import PretrainedConfig, PreTrainedModel

from .. import architectures, interfaces
from ..configs import ExportConfig
from ..costs.table import Curve, Table, Unit
from ..evaluation import latency, session
from ..evaluation.inputs import Batch, Forward, Logits
from ..evaluation.latency import Contestant, Setting
from ..exporting import precision, skeleton
from ..exporting.precision import Rules
from ..exporting.skeleton import Counts, Skeleton

MOST_COUNTS = 16
"""Of heads, and of neurons, that are measured: a solver chooses among them."""
FAST_MULTIPLE = 64
"""Neurons are counted by a multiple of it, where there are enough: vectors and tensor cores are as wide."""
TIMES_AS_WIDE = 8
"""A last layer that is computed for one token costs too little to be told from noise; so one so much wider is timed."""
BLOCK = 400.0
"""Milliseconds of calls, about, for which a graph has its turn."""

Costs = Callable[[dict[str, Counts]], dict[str, float]]
"""From graphs by name to what each costs."""


@dataclass(frozen=True)
class Drawn:
    """The graphs of a model's structures."""

    config: PretrainedConfig
    skeleton: Skeleton
    whole: Counts
    layers: int
    last_apart: bool
    """Whether the last layer is computed for one token alone."""

    @classmethod
    def of(cls, config: PretrainedConfig, exported: ExportConfig, rules: Rules, provider: str) -> Self:
        """Of models of a pretrained config, in the one precision of a resolved `exported`, without a look at examples.

        Traces two models. Raises UnlikeGraphsError where their graphs are not alike.
        """
        own = architectures.layers(architectures.blank(config))
        graphs, narrowed = [], 0
        both = skeleton.two(own[0].head_size, exported.block_size)
        for counts in both:
            written, figures = write(random_model(config, *counts.by_layer(len(own))), exported, rules, provider)
            graphs.append(written)
            narrowed = figures["narrowed"]["nodes"]
        whole = Counts(*(own[0].heads, own[0].neurons) * 2)
        return cls(config, Skeleton(graphs[0], graphs[1], both), whole, len(own), narrowed > 0)

    def milliseconds(self, setting: Setting) -> Table:
        """Of a call as `setting` says; of slow models fewer calls, `BLOCK` of them a turn.

        Each graph takes its turns with the whole model alone, so that both have the same pace of the machine.
        """
        batch = interfaces.of(self.config.model_type).batch(self.config.vocab_size, setting)

        def timed(others: dict[str, Counts], setting: Setting) -> dict[str, latency.Samples]:
            opened: dict[str, Contestant]
            opened = {name: partial(self._opened, counts, setting) for name, counts in others.items()}
            return latency.in_turns(opened, batch, setting)

        first = timed({"whole": self.whole}, replace(setting, samples=3, rounds=1))["whole"]
        calls = min(max(round(BLOCK / float(np.median(first))), 2), setting.samples // setting.rounds)
        setting = replace(setting, samples=calls * setting.rounds)

        def medians(graphs: dict[str, Counts]) -> dict[str, float]:
            pairs = {name: timed({"whole": self.whole, "other": counts}, setting) for name, counts in graphs.items()}
            whole = float(np.median([taken["whole"] for taken in pairs.values()]))
            blocks = {name: {who: np.median(ms, axis=1) for who, ms in taken.items()} for name, taken in pairs.items()}
            return {name: whole * float(np.median(each["other"] / each["whole"])) for name, each in blocks.items()}

        return self._table("ms", medians)

    def megabytes(self) -> Table:
        """Of a file (10⁶ bytes)."""
        return self._table("MB", lambda graphs: {name: self.skeleton.size(counts) for name, counts in graphs.items()})

    def _table(self, unit: Unit, costs: Costs) -> Table:
        heads, neurons = spread(self.whole.heads, 1), spread(self.whole.neurons, FAST_MULTIPLE)
        graphs = {
            "whole": self.whole,
            **{f"heads {count}": self._with(heads=count) for count in heads},
            **{f"neurons {count}": self._with(neurons=count) for count in neurons},
            "last heads": replace(self.whole, last_heads=self.whole.heads * TIMES_AS_WIDE),
            "last neurons": replace(self.whole, last_neurons=self.whole.neurons * TIMES_AS_WIDE),
        }
        found = costs(graphs)
        alike = self.layers - self.last_apart
        curves = {}
        for kind, counts in (("heads", heads), ("neurons", neurons)):
            own = _curve(counts, [(found[f"{kind} {count}"] - found["whole"]) / max(alike, 1) for count in counts])
            wider = (found[f"last {kind}"] - found["whole"]) / (TIMES_AS_WIDE - 1) / counts[-1]
            last = Curve(tuple(counts), tuple(max(wider, 0.0) * count for count in counts))
            curves[kind] = (own,) * alike + (last,) * self.last_apart
        everything = sum(curve.costs[-1] for own in curves.values() for curve in own)
        return Table(unit, found["whole"] - everything, curves["heads"], curves["neurons"])

    def _with(self, **counts: int) -> Counts:
        """The whole with other counts in all layers that are alike."""
        last = {} if self.last_apart else {f"last_{unit}": count for unit, count in counts.items()}
        return replace(self.whole, **counts, **last)

    @contextmanager
    def _opened(self, counts: Counts, setting: Setting) -> Iterator[Forward]:
        content, weights = self.skeleton.graph(counts)
        live = session.of_model(content, "a graph of the table", setting.provider, setting.threads, weights)
        names = [entry.name for entry in live.get_inputs()]

        def forward(batch: Batch) -> Logits:
            return session.logits_of(live, {name: batch[name] for name in names}, setting.provider)

        yield forward


def write(model: PreTrainedModel, exported: ExportConfig, rules: Rules, provider: str) -> tuple[Any, dict[str, Any]]:
    """`model` as an OnnxModel in the one precision of a resolved `exported`, without a look at examples, and what is
    noted of its graph; its weights say nothing."""
    assert exported.precision is not None and exported.graph is not None and exported.opset is not None
    (name,), interface = exported.precision, interfaces.of(model.config.model_type)
    written, figures = interface.to_onnx(model, exported.graph, exported.opset, provider)
    if name != "fp32":
        precision.lower(written, interface.PASSES[name], rules, list)
    return written, figures


def random_model(config: PretrainedConfig, heads: list[int], neurons: list[int]) -> PreTrainedModel:
    """A model with so many heads and neurons a layer, and weights that are drawn, the same each time."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = architectures.from_config(config)
        architectures.resize(model, heads, neurons)
        for parameter in model.parameters():
            parameter.normal_(std=0.02)
    return model.eval()


def spread(most: int, multiple: int) -> list[int]:
    """At most `MOST_COUNTS` counts up to `most`, which is one of them, in even steps; of `multiple`, where it gives
    half as many."""
    step = -(-most // MOST_COUNTS)
    if most // multiple >= MOST_COUNTS // 2:
        step = -(-step // multiple) * multiple
    return [*range(step, most, step), most]


def _curve(counts: list[int], more: list[float]) -> Curve:
    """What a part of a layer costs, from how much more it costs than the whole one: nothing where it keeps no unit, as
    far as the smallest two counts tell."""
    slope = (more[1] - more[0]) / (counts[1] - counts[0]) if len(counts) > 1 else 0.0
    nothing = more[0] - max(slope, 0.0) * counts[0]
    return Curve(tuple(counts), tuple(cost - nothing for cost in more))
