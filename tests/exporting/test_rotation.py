"""Rotary positions in a batch, against what turning pairs of numbers means."""

from functools import partial

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest

from dsee_compress.exporting import rewriting
from dsee_compress.exporting.passes import contrib, rotation

BATCH, HEADS, TOKENS, HALF = 3, 2, 5, 4


def graph() -> onnx_ir.Model:
    """Two heads' worth of queries and keys, turned by the same angles, which stand once for all sequences."""
    kind, make = onnx.TensorProto.FLOAT, onnx.helper.make_node
    shape = ["batch", HEADS, TOKENS, 2 * HALF]
    tensors = {
        name: onnx.helper.make_tensor_value_info(name, kind, shape) for name in ("query", "key", "turned", "turned_key")
    }
    angles = [onnx.helper.make_tensor_value_info(name, kind, [1, TOKENS, HALF]) for name in ("cos", "sin")]
    nodes = [
        make("RotaryEmbedding", ["query", "cos", "sin"], ["turned"], "first", num_heads=HEADS),
        make("RotaryEmbedding", ["key", "cos", "sin"], ["turned_key"], "second", num_heads=HEADS),
    ]
    inputs = [tensors["query"], tensors["key"], *angles]
    made = onnx.helper.make_graph(nodes, "g", inputs, [tensors["turned"], tensors["turned_key"]])
    return onnx_ir.from_proto(onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 23)]))


@pytest.mark.parametrize(
    "rules", [lambda _: rotation.RULES, partial(contrib.rules, local=False)], ids=["portable", "fused"]
)
def test_every_sequence_of_a_batch_is_turned_by_its_positions(rules):
    rewritten = graph()
    rewriting.rewrite(rewritten, rules(rewritten))
    model = onnx_ir.to_proto(rewritten)
    onnx.checker.check_model(model, full_check=True)
    draw = np.random.default_rng(0)
    query, key = draw.normal(size=(2, BATCH, HEADS, TOKENS, 2 * HALF)).astype(np.float32)
    angles = np.outer(np.arange(TOKENS), 0.5 ** np.arange(HALF))[None].astype(np.float32)
    feed = {"query": query, "key": key, "cos": np.cos(angles), "sin": np.sin(angles)}
    runtime = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for found, given in zip(runtime.run(["turned", "turned_key"], feed), (query, key), strict=True):
        expected = (given[..., :HALF] + 1j * given[..., HALF:]) * np.exp(1j * angles)
        np.testing.assert_allclose(found, np.concatenate([expected.real, expected.imag], axis=-1), atol=1e-6)
