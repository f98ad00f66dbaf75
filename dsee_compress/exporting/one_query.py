"""The attention of a layer of which one token asks: neither keys nor values are computed.

A head's score of a token x is qᵀ(W_K x + b_K) = (W_Kᵀ q)ᵀ x + qᵀ b_K, and softmax drops the last term, which all tokens
share; its answer is Σ p (W_V x + b_V) = W_V Σ p x + b_V. So W_K is taken to the query and W_V to the answer, once
instead of once a token, and the heads ask the tokens themselves. DeepSeek-V2 absorbs weights alike (arXiv 2405.04434,
section 2.1.2). The function stays the same.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import NodeProto

Array = NDArray[Any]
_PRODUCTS = ("one_query_asked", "one_query_value")
"""What the names of the products end with whose weights are a matrix a head."""


@dataclass(frozen=True)
class StandardHeads:
    """ONNX's own Attention, where its keys and values are projections of the same tokens."""

    split: "NodeProto"
    apart: "NodeProto"
    """The Reshape and the Transpose that bring the queries' heads apart."""
    attention: "NodeProto"
    together: "NodeProto"
    merge: "NodeProto"
    """The Transpose and the Reshape that bring the answers' heads together."""
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
    options = _attributes(node)
    heads, fill = options["num_heads"], options["mask_filter_value"]
    query, key, value = np.split(model.get_constant_value(weight), 3, axis=1)
    query_bias, _, value_bias = np.split(model.get_constant_value(bias), 3)
    width, inner = query.shape
    graph = _Additions(model, node.name)
    projected = graph.add("query", "MatMul", row, graph.weight("query_weight", query))
    biased = graph.add("biased_query", "Add", projected, graph.weight("query_bias", query_bias))

    def shaped(name: str, tensor: str, *shape: int) -> str:
        return graph.add(name, "Reshape", tensor, graph.weight(f"{name}_shape", np.array([-1, *shape])))

    head_size = inner // heads
    asked = graph.asked(shaped("heads", biased, heads, 1, head_size), key, heads, head_size**-0.5)
    mixed = graph.add(
        "mixed",
        "MultiHeadAttention",
        shaped("queries", asked, heads, width),
        *(tokens, tokens, "", mask),
        domain="com.microsoft",
        num_heads=1,
        scale=1.0,
        mask_filter_value=fill,
    )
    answered = graph.answered(shaped("mixed_heads", mixed, heads, 1, width), value, value_bias, heads)
    model.remove_node(node)
    model.replace_input_of_all_nodes(node.output[0], shaped("row", answered, 1, inner))


def standard_heads(
    model: Any, merge: "NodeProto", readers: dict[str, list["NodeProto"]], producers: dict[str, "NodeProto"]
) -> StandardHeads | None:
    """The attention whose answers `merge` puts together, if its queries alone can be fewer: nothing else reads them."""
    chain = model.match_parent_path(merge, ["Transpose", "Attention", "Transpose", "Reshape"], [0, 0, 0, 0], producers)
    if chain is None or any(len(readers[node.output[0]]) > 1 or node.domain for node in chain):
        return None
    together, attention, apart, split = chain
    shape = producers.get(split.input[1])
    if shape is None or shape.op_type != "Concat" or len(shape.input) != 4:
        return None
    tokens, head_size = (model.get_constant_value(shape.input[axis]) for axis in (1, 3))
    key, value = (_projection(model, attention, index, producers) for index in (1, 2))
    if tokens is None or tokens.tolist() != [-1] or head_size is None or key is None or value is None:
        return None
    if key.product.input[0] != value.product.input[0]:
        return None
    return StandardHeads(split, apart, attention, together, merge, key, value, int(head_size.item()))


def ask_standard(model: Any, heads: StandardHeads, mask_row: str | None = None) -> None:
    """Let the row of queries alone that `heads.split` gives ask; mask_row: the row of the attention's mask, if any."""
    attention, merge = heads.attention, heads.merge
    options = _attributes(attention)
    graph = _Additions(model, heads.key.bias.input[1].removesuffix("bias"))
    key, value = (model.get_constant_value(part.product.input[1]) for part in (heads.key, heads.value))
    count = key.shape[1] // heads.head_size
    asked = graph.asked(attention.input[0], key, count, options.get("scale", heads.head_size**-0.5))
    tokens = graph.add("tokens", "Unsqueeze", heads.key.product.input[0], graph.weight("heads_axis", np.array([1])))
    masks = [mask_row] if mask_row else []
    mixed = graph.add("mixed", "Attention", asked, tokens, tokens, *masks, **options | {"scale": 1.0})
    heads.together.input[0] = graph.answered(mixed, value, model.get_constant_value(heads.value.bias.input[1]), count)
    merge.input[1] = graph.weight("row_shape", np.array([0, 1, -1]))
    merge.ClearField("attribute")  # allowzero; without it, 0 is the batch as it comes
    model.remove_node(attention)


def products(graph: Any) -> list[str]:
    """Names of a graph's products of one row with a matrix a head: so few, that they stay as precise as they are."""
    return [node.name for node in graph.node if node.name.endswith(_PRODUCTS)]


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
        self._model, self._name = model, f"{name}_one_query"

    def weight(self, name: str, array: Array) -> str:
        import onnx

        tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(array), f"{self._name}_{name}")
        self._model.add_initializer(tensor)
        return str(tensor.name)

    def add(self, name: str, operator: str, *inputs: str, **attributes: Any) -> str:
        """The output of a node, which bears its name."""
        import onnx

        output = f"{self._name}_{name}"
        self._model.add_node(onnx.helper.make_node(operator, [*inputs], [output], name=output, **attributes))
        return output

    def asked(self, query: str, key: Array, heads: int, scale: float) -> str:
        """What each head asks the tokens, (batch, heads, 1, width).

        query: (batch, heads, 1, head size); key: (width, heads · head size); scale: of the scores.
        """
        by_head = key.reshape(len(key), heads, -1).transpose(1, 2, 0) * key.dtype.type(scale)
        return self.add("asked", "MatMul", query, self.weight("key_weight", by_head))

    def answered(self, mixed: str, value: Array, bias: Array, heads: int) -> str:
        """What each head answers, (batch, heads, 1, head size).

        mixed: the tokens as it weighs them, (batch, heads, 1, width); value: (width, heads · head size).
        """
        by_head = value.reshape(len(value), heads, -1).transpose(1, 0, 2)
        product = self.add("value", "MatMul", mixed, self.weight("value_weight", by_head))
        return self.add("answered", "Add", product, self.weight("value_bias", bias.reshape(heads, 1, -1)))


def _attributes(node: "NodeProto") -> dict[str, Any]:
    import onnx

    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
