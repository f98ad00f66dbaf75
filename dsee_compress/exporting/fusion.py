"""Fuse attention, GELU and layer normalisation into ONNX Runtime's operators, and count what was fused."""

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from .. import architectures
from ..architectures import Architecture
from ..configs import Graph
from ..errors import GateError
from . import files

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


def fuse(source: Path, target: Path, architecture: Architecture, provider: str) -> None:
    """Write `source` with its attention, GELU and normalisation subgraphs fused to `target`.

    The head count of each node is read from its own reshape, so layers may differ. The embeddings become one node but
    for the CPU's provider, whose EmbedLayerNormalization is a scalar loop.
    """
    from onnxruntime.transformers import fusion_options, optimizer

    # The fusion warns of every layer whose width is not the first one's, and of shapes that were not asked for.
    for name in ("fusion_attention", "fusion_skiplayernorm"):
        logging.getLogger(name).setLevel(logging.ERROR)
    options = fusion_options.FusionOptions(architecture.fusion)
    # The default counts the real tokens, which masks the wrong ones unless all padding stands at the end.
    options.use_raw_attention_mask()
    options.enable_embed_layer_norm = provider != "cpu"
    # Attention alone needs the shapes; inferring them takes minutes on the many nodes of one that stays unfused.
    options.enable_shape_inference = architecture.fuses_attention
    optimized = optimizer.optimize_model(
        str(source),
        model_type=architecture.fusion,
        num_heads=0,
        hidden_size=0,
        optimization_options=options,
        opt_level=0,
    )
    files.save(optimized, target)


def count_nodes(path: Path) -> NodeCount:
    """Count the fused nodes of a graph."""
    import onnx

    kinds = Counter(node.op_type for node in onnx.load(str(path), load_external_data=False).graph.node)
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


def require_fused(path: Path, layers: int, *, attention_is_one_node: bool) -> NodeCount:
    """Count, and raise GateError unless every layer is one attention node and one GELU node.

    Where attention is known to stay unfused, its Softmax is what stands in a layer instead. A task head may have a
    GELU of its own, fused like the others.
    """
    found = count_nodes(path)
    attention = layers if attention_is_one_node else 0
    if found.attention != attention or found.gelu < layers or found.unfused != layers - attention:
        raise GateError(
            f"gate 'fusion' failed: {path.name} has {found.attention} attention and {found.gelu} GELU nodes "
            f"for {layers} layers, and {found.unfused} Softmax and Erf nodes that stayed unfused"
        )
    return found
