"""A decoder as one ONNX graph for prompt and continuation, which takes its keys and values and gives them back.

A layer's attention is written by its own head count, a number in the graph that may differ from layer to layer.
(ONNX Runtime's GPT-2 fusion writes one count for the whole model into every node, which is wrong after pruning.)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .. import architectures
from ..architectures import Layer, Place
from ..configs import Graph
from ..progress import quiet
from . import files, parts
from .graph import require_exporter, uncollected
from .operators import STYLES, Heads, Operators, Rotation, Step
from .passes import last_tokens, tied_vocabulary

INPUTS = ("input_ids", "attention_mask", "position_ids")
BATCH, TOKENS, PAST = 2, 5, 3
"""The sizes that the exporter traces."""


def to_onnx(model: PreTrainedModel, graph: Graph, opset: int) -> Any:
    """`model`, taken apart as it is loaded, as an OnnxModel.

    Inputs, named as Optimum names them: input_ids and position_ids (batch, tokens), attention_mask (batch, past +
    tokens), and of every layer `past_key_values.N.key` and `.value` (batch, heads, past, head size), empty at first;
    `logits_to_keep` (1,) may be left out (see `last_tokens`).
    Outputs: `logits` (batch, tokens, vocabulary), and `present.N.key` and `.value` of past and new tokens.
    Raises UserError if the export libraries are missing or too old.
    """
    require_exporter()
    program = exported(model, graph, opset)
    program.optimize()
    written = files.of_program(program)
    family = architectures.of(model)
    known = parts.of(written, family) | {tied_vocabulary.head(written).name: "task_head"}
    parts.say(written, known, family)
    last_tokens.let_choose(written)
    return written


def exported(model: PreTrainedModel, graph: Graph, opset: int) -> Any:
    """What torch's exporter makes of a decoder, as it was traced: an ONNXProgram."""
    layers = architectures.layers(model)
    dim = torch.export.Dim
    batch, tokens, past = dim("batch_size"), dim("sequence_length"), dim("past_sequence_length")
    # One tensor an input, and no two sizes alike: the exporter takes what is equal here for what is always equal.
    example = {
        "input_ids": torch.ones((BATCH, TOKENS), dtype=torch.int64),
        "attention_mask": torch.ones((BATCH, PAST + TOKENS), dtype=torch.int64),
        "position_ids": torch.ones((BATCH, TOKENS), dtype=torch.int64),
        "past": [torch.zeros(BATCH, layer.heads, PAST, layer.head_size) for layer in layers for _ in range(2)],
    }
    shapes = {
        "input_ids": {0: batch, 1: tokens},
        "attention_mask": {0: batch, 1: dim("total_sequence_length")},
        "position_ids": {0: batch, 1: tokens},
        "past": [{0: batch, 2: past}] * (2 * len(layers)),
    }
    operators = STYLES[graph]
    with quiet("torch.onnx"), uncollected(), _written_with(operators, model):
        return torch.onnx.export(
            _TensorsAlone(model, operators).eval(),
            kwargs=example,
            dynamo=True,
            opset_version=opset,
            input_names=[*INPUTS, *_of_each_layer("past_key_values", len(layers))],
            output_names=["logits", *_of_each_layer("present", len(layers))],
            dynamic_shapes=shapes,
            optimize=False,
            verbose=False,
        )


def _of_each_layer(name: str, layers: int) -> list[str]:
    return [f"{name}.{index}.{part}" for index in range(layers) for part in ("key", "value")]


class _TensorsAlone(nn.Module):
    """A model's forward pass in which what it remembers comes and goes as tensors."""

    def __init__(self, model: PreTrainedModel, operators: Operators) -> None:
        super().__init__()
        self._model, self._operators = model, operators

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, past: list[Tensor]
    ) -> tuple[Tensor, ...]:
        """Shapes as in `to_onnx`. Returns the logits and every layer's keys and values."""
        windows = {layer.heads.window for layer in self._model.modules() if isinstance(layer, _Attention)}
        masks = {window: self._operators.masks(attention_mask, input_ids.shape[1], window) for window in windows}
        step = Step(past, [], masks, position_ids)
        logits = self._model(
            input_ids=input_ids,
            # transformers takes a mask of four dimensions as it is, where it would make dozens of nodes of another.
            attention_mask=attention_mask[:, None, None],
            position_ids=position_ids,
            past_key_values=step,
            use_cache=True,
        ).logits
        return logits, *step.present


class _Attention(nn.Module):
    """A layer's attention in few operators: one product makes query, key and value, and one node mixes them."""

    def __init__(self, layer: Layer, index: int, operators: Operators, rotation: Rotation | None) -> None:
        super().__init__()
        self._operators, self._rotation = operators, rotation
        parts = [layer.linear(place) for place in ("query", "key", "value")]
        self._projection, self._output = _side_by_side(parts), layer.linear("attention_output")
        self._widths = [architectures.rows(part) for part in parts]
        own = layer.module.get_submodule(layer.architecture.attention)
        scale = getattr(own, "scaling", layer.head_size**-0.5)
        self.heads = Heads(index, self._widths[0] // layer.head_size, float(scale), _window(own))
        self._groups, self._size = layer.heads, layer.head_size
        norms = layer.architecture.head_norms
        self._norms = nn.ModuleDict(
            {place: _RmsNorm(operators, layer.module.get_submodule(path)) for place, path in norms.items()}
        )

    def forward(self, hidden_states: Tensor, past_key_values: Step, **_: Any) -> tuple[Tensor, None]:
        """hidden_states: (batch, tokens, width)."""
        query, key, value = self._projection(hidden_states).split(self._widths, dim=-1)
        query, key = self._normalised("query", query), self._normalised("key", key)
        if self._rotation is not None:
            positions = past_key_values.position_ids
            query = self._operators.rotate(query, positions, self._rotation, self.heads.queries)
            key = self._operators.rotate(key, positions, self._rotation, self._groups)
        mixed = self._operators.attend(query, key, value, self.heads, past_key_values)
        return self._output(mixed), None

    def _normalised(self, place: Place, x: Tensor) -> Tensor:
        """Each head by itself, where the family has that."""
        if place not in self._norms:
            return x
        return self._norms[place](x.unflatten(-1, (-1, self._size))).flatten(2)


class _Gelu(nn.Module):
    def __init__(self, operators: Operators, approximate: bool) -> None:
        super().__init__()
        self._operators, self._approximate = operators, approximate

    def forward(self, x: Tensor) -> Tensor:
        return self._operators.gelu(x, self._approximate)


class _RmsNorm(nn.Module):
    def __init__(self, operators: Operators, norm: Any) -> None:
        super().__init__()
        self._operators, self.weight, self._epsilon = operators, norm.weight, norm.variance_epsilon

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self._operators.rms_norm(hidden_states, self.weight, self._epsilon)


@contextmanager
def _written_with(operators: Operators, model: PreTrainedModel) -> Iterator[None]:
    """`model` with parts that are written in `operators`, and its own again afterwards."""
    rotation = _rotation(model)
    replaced: dict[str, nn.Module] = {}
    names = {module: name for name, module in model.named_modules()}
    for index, layer in enumerate(architectures.layers(model)):
        attention = layer.module.get_submodule(layer.architecture.attention)
        replaced[names[attention]] = _Attention(layer, index, operators, rotation)
    inside = tuple(f"{name}." for name in replaced)
    for name, module in model.named_modules():
        if name.startswith(inside):
            continue
        if isinstance(module, nn.GELU):
            replaced[name] = _Gelu(operators, approximate=module.approximate == "tanh")
        elif type(module).__name__.endswith("RMSNorm"):
            replaced[name] = _RmsNorm(operators, module)
    own = {name: model.get_submodule(name) for name in replaced}
    try:
        for name, module in replaced.items():
            architectures.set_submodule(model, name, module)
        yield
    finally:
        for name, module in own.items():
            architectures.set_submodule(model, name, module)


def _window(attention: nn.Module) -> int | None:
    """Tokens that each sees at most: a number of the layer's own where layers differ, or of the model's config."""
    config = getattr(attention, "config", None)
    window: int | None = getattr(attention, "sliding_window", getattr(config, "sliding_window", None))
    return window


def _rotation(model: PreTrainedModel) -> Rotation | None:
    """Tables for every position that the model reads, if it turns its queries and keys by position."""
    rotary = getattr(model.base_model, "rotary_emb", None)
    if rotary is None:
        return None
    positions = torch.arange(architectures.longest_input(model.config))[None]
    cosines, sines = rotary(torch.zeros(1, dtype=torch.float32), positions)
    half = cosines.shape[-1] // 2
    return cosines[0, :, :half].contiguous(), sines[0, :, :half].contiguous()


def _side_by_side(parts: list[nn.Module]) -> nn.Linear:
    """One Linear with the rows of several."""
    weight = torch.cat([part.weight.detach() for part in parts])
    biases = [part.bias for part in parts]
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=biases[0] is not None, device="meta")
    linear.weight = nn.Parameter(weight)
    if biases[0] is not None:
        linear.bias = nn.Parameter(torch.cat([bias.detach() for bias in biases]))
    return linear
