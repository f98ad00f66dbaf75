"""Fuse attention, GELU and layer normalisation into ONNX Runtime's operators, and count what was fused."""

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from .. import architectures
from ..architectures import Architecture
from ..configs import Graph
from ..errors import GateError
from . import unfit

_ATTENTION = {"Attention", "QAttention", "MultiHeadAttention", "GroupQueryAttention"}
_GELU = {"Gelu", "BiasGelu", "FastGelu"}


@dataclass(frozen=True)
class NodeCount:
    """What a graph consists of."""

    attention: int
    gelu: int
    unfused: int
    """Softmax and Erf nodes: what attention and GELU leave where they were not fused."""
    nodes: int


def fuse(model: Any, architecture: Architecture, provider: str) -> Any:
    """An OnnxModel like `model`, which it uses up, with attention, GELU and normalisation subgraphs fused, nodes named.

    The head count of each node is read from its own reshape, so layers may differ. The embeddings become one node but
    for the CPU's provider, whose EmbedLayerNormalization is a scalar loop.
    """
    from onnxruntime.transformers import fusion_options, optimizer
    from onnxruntime.transformers.onnx_model import OnnxModel

    # The fusion warns of every layer whose width is not the first one's, and of shapes that were not asked for.
    for name in ("fusion_attention", "fusion_skiplayernorm"):
        logging.getLogger(name).setLevel(logging.ERROR)
    options = fusion_options.FusionOptions(architecture.fusion)
    # The default counts the real tokens, which masks the wrong ones unless all padding stands at the end.
    options.use_raw_attention_mask()
    options.enable_embed_layer_norm = provider != "cpu"
    # Attention alone needs the shapes; inferring them takes minutes on the many nodes of one that stays unfused.
    options.enable_shape_inference = architecture.fuses_attention
    fused = optimizer.optimize_by_fusion(model.model, architecture.fusion, optimization_options=options)
    for node in fused.nodes():
        node.name = node.name or f"{node.op_type} of {node.output[0]}"
    return OnnxModel(fused.model)


def count_nodes(model: Any) -> NodeCount:
    """Count the fused nodes of an OnnxModel."""
    kinds = Counter(node.op_type for node in model.model.graph.node)
    return NodeCount(
        attention=sum(kinds[kind] for kind in _ATTENTION),
        gelu=sum(kinds[kind] for kind in _GELU),
        unfused=kinds["Softmax"] + kinds["Erf"],
        nodes=kinds.total(),
    )


def attention_is_one_node(model: PreTrainedModel, graph: Graph) -> bool:
    """Whether a layer's attention becomes one node: fused, where the optimizer knows the family's; portable, where
    the model calls torch's own."""
    if graph == "fused":
        return architectures.of(model).fuses_attention
    return bool(model.config._attn_implementation == "sdpa")


def require_fused(model: Any, name: str, layers: int, *, attention_is_one_node: bool) -> NodeCount:
    """Count, and raise GateError unless every layer of an OnnxModel is one attention node and one GELU node.

    Where attention is known to stay unfused, its Softmax is what stands in a layer instead. A task head may have a
    GELU of its own, fused like the others.
    """
    found = count_nodes(model)
    attention = layers if attention_is_one_node else 0
    if found.attention != attention or found.gelu < layers or found.unfused != layers - attention:
        raise GateError(
            f"gate 'fusion' failed: {name} has {found.attention} attention and {found.gelu} GELU nodes "
            f"for {layers} layers, and {found.unfused} Softmax and Erf nodes that stayed unfused{unfit.told(model)}"
        )
    return found
