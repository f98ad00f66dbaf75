"""Weights of products in blocks of few bits, a scale and a zero point a block."""

from typing import Any

from ...progress import quiet
from . import one_query, tied_vocabulary
from .dynamic import TALKATIVE


def quantise(model: Any, block_size: int) -> None:
    """Turn the weights of the products of an OnnxModel into int4; those of `one_query` stay."""
    _quantise(model, 4, block_size, kept=one_query.by_head(model.model.graph))


def quantise_head(model: Any, block_size: int) -> None:
    """Turn the weight that scores the vocabulary into int8, and the table with it that looks tokens up, if it is tied.

    The table is stored once where its rows are of whole blocks.
    """
    head, tied = tied_vocabulary.head(model), tied_vocabulary.find(model)
    whole_blocks = model.get_initializer(head.input[1]).dims[0] % block_size == 0
    _quantise(model, 8, block_size, kept=[node.name for node in model.nodes() if node.name != head.name])
    if tied is not None and whole_blocks:
        tied_vocabulary.look_up_in_blocks(model, tied, block_size)
        model.topological_sort()


def _quantise(model: Any, bits: int, block_size: int, kept: list[str]) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    # Accuracy level 4 multiplies in int8, which is what a CPU is fast at.
    with quiet(*TALKATIVE):
        quantizer = MatMulNBitsQuantizer(
            model.model, bits=bits, block_size=block_size, accuracy_level=4, nodes_to_exclude=kept
        )
        quantizer.process()
    model.initialize(quantizer.model.model)
