"""What each part of a model weighs is found in its file, whatever the exporter calls the weights."""

import pytest
import torch

from dsee_compress import architectures
from dsee_compress.evaluation import shares
from dsee_compress.exporting import encoder, precision

from ..fixtures import models


@pytest.mark.parametrize("graph, opset", [("fused", 18), ("portable", 23)])
def test_the_weights_of_layers_are_found_in_their_parts(family, graph, opset, tmp_path):
    model, path, lower = models.build(family), tmp_path / "model.onnx", tmp_path / "model_int8.onnx"
    torch.manual_seed(1)
    architectures.resize(model, [3, 1, 2], [17, 40, 5])
    encoder.write(model.eval(), path, graph, opset, "cpu")
    precision.dynamic_int8(path, lower, reduce_range=True)
    expected = {"attention": 0, "ffn": 0}
    for _, place, linear in architectures.named_linears(model):
        expected["ffn" if place in ("ffn_in", "ffn_out") else "attention"] += linear.weight.numel() * 4
    table = architectures.of(model)
    whole, small = shares.megabytes(path, table), shares.megabytes(lower, table)
    for part, size in expected.items():
        # Beside the weights, biases; of positions, what they are looked up by; in int8, scales.
        assert size <= whole[part] * 1e6 and size / 4 <= small[part] * 1e6 <= 0.9e6 * whole[part]
    for parts, file in ((whole, path), (small, lower)):
        assert sum(parts.values()) <= file.stat().st_size / 1e6
