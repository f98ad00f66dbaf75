"""The attention of a layer of which one token asks: neither keys nor values are computed.

A head's score of a token x is qᵀ(W_K x + b_K) = (W_Kᵀ q)ᵀ x + qᵀ b_K, and softmax drops the last term, which all tokens
share; its answer is Σ p (W_V x + b_V) = W_V Σ p x + b_V. So W_K is taken to the query and W_V to the answer, once
instead of once a token, and the heads ask the tokens themselves, as so many queries of a single head. DeepSeek-V2
absorbs weights alike (arXiv 2405.04434, section 2.1.2). The function stays the same.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .attention import attributes_of

if TYPE_CHECKING:
    from onnx import NodeProto

Array = NDArray[Any]
_BY_HEAD = ("one_query_by_key", "one_query_by_value")
"""What the names of the two products end with whose weights are a matrix a head."""


@dataclass(frozen=True)
class StandardHeads:
    """ONNX's own Attention, where its keys and values are projections of the same tokens."""

    split: "NodeProto"
    """The Reshape that brings the queries' heads apart; `merge` is the one that brings the answers' together."""
    attention: "NodeProto"
    merge: "NodeProto"
    key: "_Projection"
    value: "_Projection"
    head_size: int


@dataclass(frozen=True)
class _Projection:
    product: "NodeProto"
    bias: "NodeProto"


def ask_fused(model: Any, node: "NodeProto", row: str) -> None:
    """Let `row` alone, a tensor (batch, 1, width), ask in ONNX Runtime's Attention `node` of an OnnxModel."""
    tokens, weight, bias, mask = node.input[:4]
    options = attributes_of(node)
    query, key, value = np.split(model.get_constant_value(weight), 3, axis=1)
    query_bias, _, value_bias = np.split(model.get_constant_value(bias), 3)
    graph = _Additions(model, f"{node.name}_one_query")
    projected = graph.add("MatMul", "projected", row, graph.weight("query_weight", query))
    biased = graph.add("Add", "query", projected, graph.weight("query_bias", query_bias))
    head_size = query.shape[1] // options["num_heads"]
    asked = graph.asked(biased, key, head_size, options.get("scale", head_size**-0.5))
    fill = options["mask_filter_value"]
    kind = {"domain": "com.microsoft", "num_heads": 1, "scale": 1.0, "mask_filter_value": fill}
    mixed = graph.add("MultiHeadAttention", "mixed", asked, tokens, tokens, "", mask, **kind)
    model.remove_node(node)
    model.replace_input_of_all_nodes(node.output[0], graph.answered(mixed, value, value_bias, head_size))


def standard_heads(
    model: Any, merge: "NodeProto", readers: dict[str, list["NodeProto"]], producers: dict[str, "NodeProto"]
) -> StandardHeads | None:
    """The attention whose answers `merge` puts together, if one query of it can do without keys and values.

    They have to be projections of the same tokens, and nothing else may read what is between queries and answers.
    """
    chain = model.match_parent_path(merge, ["Transpose", "Attention", "Transpose", "Reshape"], [0, 0, 0, 0], producers)
    if chain is None or any(len(readers[node.output[0]]) > 1 or node.domain for node in chain):
        return None
    attention, split = chain[1], chain[3]
    options = attributes_of(attention)
    if len(attention.input) > 4 or options.get("is_causal") or options.get("softcap"):
        return None
    key, value = (_projection(model, attention, index, producers) for index in (1, 2))
    if key is None or value is None or key.product.input[0] != value.product.input[0]:
        return None
    shape = producers.get(split.input[1])
    if shape is None or shape.op_type != "Concat" or len(shape.input) != 4:
        return None
    head_size = model.get_constant_value(shape.input[3])
    if head_size is None or head_size.item() < 1:
        return None
    return StandardHeads(split, attention, merge, key, value, int(head_size.item()))


def ask_standard(model: Any, heads: StandardHeads) -> None:
    """Let one token alone ask: what `heads.split` reads is (batch, 1, heads · head size) by now."""
    attention, head_size = heads.attention, heads.head_size
    options = attributes_of(attention)
    graph = _Additions(model, f"{heads.key.bias.input[1].removesuffix('bias')}one_query")
    key, value = (model.get_constant_value(part.product.input[1]) for part in (heads.key, heads.value))
    tokens = heads.key.product.input[0]
    asked = graph.asked(heads.split.input[0], key, head_size, options.get("scale", head_size**-0.5))
    # The mask's first row, (batch, 1, 1, tokens), once a head: ONNX Runtime wants as many as there are queries.
    row = graph.weight("mask_row", np.zeros(key.shape[1] // head_size, np.int64))
    masks = [graph.add("Gather", "mask", mask, row, axis=2) for mask in attention.input[3:] if mask]
    kind = options | {"q_num_heads": 1, "kv_num_heads": 1, "scale": 1.0}
    mixed = graph.add("Attention", "mixed", asked, tokens, tokens, *masks, **kind)
    value_bias = model.get_constant_value(heads.value.bias.input[1])
    model.replace_input_of_all_nodes(heads.merge.output[0], graph.answered(mixed, value, value_bias, head_size))


def by_head(graph: Any) -> list[str]:
    """Names of a graph's products of one row with a matrix a head: of so little work that no precision lowers them."""
    return [node.name for node in graph.node if node.name.endswith(_BY_HEAD)]


def _projection(
    model: Any, attention: "NodeProto", index: int, producers: dict[str, "NodeProto"]
) -> _Projection | None:
    """What makes the attention's input of this index, of weights that are known."""
    path = ["Transpose", "Reshape", "Add", "MatMul"]
    chain = model.match_parent_path(attention, path, [index, 0, 0, 0], producers)
    if chain is None or any(model.get_constant_value(node.input[1]) is None for node in chain[2:]):
        return None
    return _Projection(product=chain[3], bias=chain[2])


class _Additions:
    """Nodes and weights that are added to an OnnxModel under one name."""

    def __init__(self, model: Any, name: str) -> None:
        self._model, self._name = model, name

    def weight(self, name: str, array: Array) -> str:
        import onnx

        tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(array), f"{self._name}_{name}")
        self._model.add_initializer(tensor)
        return str(tensor.name)

    def add(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        """The output of a new node, which bears its name."""
        import onnx

        output = f"{self._name}_{name}"
        self._model.add_node(onnx.helper.make_node(operator, [*inputs], [output], name=output, **attributes))
        return output

    def asked(self, query: str, key: Array, head_size: int, scale: float) -> str:
        """What each head asks the tokens, (batch, heads, width).

        query: (batch, 1, heads · head size); key: (width, heads · head size); scale: of the scores.
        """
        weight = key.reshape(len(key), -1, head_size).transpose(1, 2, 0) * key.dtype.type(scale)
        return self._each_head("by_key", query, weight, (len(weight), len(key)))

    def answered(self, mixed: str, value: Array, bias: Array, head_size: int) -> str:
        """What the heads answer, (batch, 1, heads · head size).

        mixed: the tokens as each head weighs them, (batch, heads, width); value: (width, heads · head size).
        """
        weight = value.reshape(len(value), -1, head_size).transpose(1, 0, 2)
        row = self._each_head("by_value", mixed, weight, (1, len(bias)))
        return self.add("Add", "answered", row, self.weight("value_bias", bias))

    def _each_head(self, name: str, rows: str, weight: Array, shape: tuple[int, int]) -> str:
        """The product of each head's row with its own matrix, (batch, *shape); weight: (heads, in, out)."""
        heads, size, _ = weight.shape
        apart = self._reshaped(f"{name}_apart", rows, [-1, heads, 1, size])
        product = self.add("MatMul", name, apart, self.weight(f"{name}_weight", weight))
        return self._reshaped(f"{name}_together", product, [-1, *shape])

    def _reshaped(self, name: str, tensor: str, shape: list[int]) -> str:
        return self.add("Reshape", name, tensor, self.weight(f"{name}_shape", np.array(shape, np.int64)))
