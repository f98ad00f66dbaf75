"""Every precision of both graph styles: what it holds, and how far its logits are from fp32's."""

import json

import numpy as np
import onnx
import pytest

import dsee_compress
from dsee_compress.errors import UserError
from dsee_compress.evaluation import session, shares
from dsee_compress.evaluation.inputs import random_batches
from dsee_compress.exporting import files, fusion, metadata, probe
from dsee_compress.exporting.layouts import LAYOUTS
from dsee_compress.store import lineage
from dsee_compress.store.manifest import Manifest

from ..fixtures import models

ARTIFACTS = LAYOUTS["optimum"].graphs
EVERY = list(ARTIFACTS)
DECIBELS = {"fp16": 40.0, "int8": 15.0, "int8_static": 15.0, "int4": 3.0}
"""At least so much signal over noise; the small models' logits are nearer to each other than a real model's."""


def logits(path) -> np.ndarray:
    with session.Session(path) as live:
        batches = random_batches([(4, 12), (3, 40)], models.VOCABULARY, live.inputs, pad_token=1)
        return np.concatenate([live.forward(batch) for batch in batches])


def nodes(path, *kinds: str) -> list[onnx.NodeProto]:
    return [node for node in onnx.load(path).graph.node if node.op_type in kinds]


def one_query(family: str) -> bool:
    """Whether the last layer has neither keys nor values: the heads of others ask by relative position, too."""
    return not family.startswith(("deberta", "mpnet"))


def packed(family: str) -> bool:
    """Whether a node has its projections: what DeBERTa adds to its scores is made of queries and keys."""
    return not family.startswith("deberta")


def test_lower_precisions_stay_near_fp32(everything):
    full = logits(everything / "model.onnx")
    for name, least in DECIBELS.items():
        assert probe.decibels(full, logits(everything / ARTIFACTS[name])) >= least, name


def test_a_portable_graph_has_standard_operators_alone(everything, style, family):
    domains = {node.domain for node in onnx.load(everything / "model.onnx").graph.node}
    assert (domains <= {"", "ai.onnx"}) == (style == "portable")
    opset = {entry.domain: entry.version for entry in onnx.load(everything / "model.onnx").opset_import}
    assert opset[""] == (23 if style == "portable" else 18)
    kinds = {"fused": ("Attention", "MultiHeadAttention"), "portable": ("Attention",)}[style]
    assert len(nodes(everything / "model.onnx", *kinds)) == models.LAYERS


def test_gelu_is_exact_but_where_products_are_in_int8(everything):
    for name, file in ARTIFACTS.items():
        exact = [
            node
            for node in nodes(everything / file, "Gelu", "BiasGelu")
            if not any(attribute.s == b"tanh" for attribute in node.attribute)
        ]
        assert (len(exact) >= models.LAYERS) == (name in ("fp32", "fp16")), name
        assert fusion.count_nodes(files.load(everything / file)).gelu >= models.LAYERS


def test_every_product_of_weights_is_lower(everything, family, style):
    """But the two, where one query asks in the last layer, that take it to the tokens and back."""
    fp16 = onnx.load(everything / ARTIFACTS["fp16"]).graph.initializer
    assert not [entry.name for entry in fp16 if entry.data_type == onnx.TensorProto.FLOAT and np.prod(entry.dims) > 64]
    asks = one_query(family)
    for name in ("int8", "int4"):
        graph = onnx.load(everything / ARTIFACTS[name]).graph
        weights = {entry.name: len(entry.dims) for entry in graph.initializer}
        full = [weights[node.input[1]] for node in graph.node if node.op_type == "MatMul" and node.input[1] in weights]
        # Of the other families the quantiser of int4 leaves products with a constant of three dimensions.
        assert full == ([3, 3] if asks else []) or (not asks and name == "int4" and {*full} == {3})
    attention = nodes(everything / ARTIFACTS["int8"], "QAttention")
    assert len(attention) == (models.LAYERS - asks if packed(family) and style == "fused" else 0)
    least = 6 * models.LAYERS - (2 if asks else 0)
    assert len(nodes(everything / ARTIFACTS["int8"], "MatMulInteger")) + 3 * len(attention) >= least
    assert len(nodes(everything / ARTIFACTS["int4"], "MatMulNBits")) >= least
    graph = onnx.load(everything / ARTIFACTS["int8_static"]).graph
    producers = {name: node.op_type for node in graph.node for name in node.output}
    products = [
        node for node in graph.node if node.op_type == "MatMul" and producers.get(node.input[1]) == "DequantizeLinear"
    ]
    assert all(producers[node.input[0]] == "DequantizeLinear" for node in products)
    kept = Manifest.read(everything).metrics.int8_static.fp32_nodes
    assert len(products) + len(kept) >= least


def test_each_part_weighs_what_its_precision_says(everything):
    full = parts(everything, "fp32")
    assert {name: round(full[name] / weight, 1) for name, weight in parts(everything, "fp16").items()} == dict.fromkeys(
        full, 2.0
    )
    for name in ("int8", "int8_static", "int4"):
        lower = parts(everything, name)
        assert all(1.5 < full[part] / lower[part] <= 8 for part in ("embeddings", "attention", "ffn")), (
            name,
            full,
            lower,
        )


def parts(folder, name: str) -> dict[str, float]:
    return shares.megabytes(folder / ARTIFACTS[name])


@pytest.mark.parametrize("name", ["bert"])
def test_the_way_goes_on_from_every_precision(everything_folders, name, style):
    everything = everything_folders(name, style)
    dsee_compress.validate(everything, max_drop=0.5, max_compression_drop=0.5)
    measured = Manifest.read(dsee_compress.benchmark(everything, samples=10, rounds=2, sequence_length=16))
    assert {*ARTIFACTS} <= measured.metrics.model_dump().keys()
    judged = json.loads((everything / "validation.json").read_text())["gates"]
    assert [gate["candidate"] for gate in judged if gate["gate"] == "precision"] == [
        f"onnx_{name}" for name in EVERY[1:]
    ]
    rows = json.loads((everything / "benchmark.json").read_text())["latency"]
    assert [row["artifact"] for row in rows] == [f"pruned_{name}" for name in EVERY]


@pytest.mark.parametrize("name", ["bert"])
def test_a_file_says_what_it_is(everything_folders, pruned_folders, name, style):
    said = metadata.read(everything_folders(name, style) / ARTIFACTS["int4"])
    assert said["precision"] == "int4" and said["labels"] == '["bad", "good"]'
    assert said["made_from"] == f"prune {lineage.fingerprint(pruned_folders(name))}"
    assert said["graph"].startswith(style) and said["max_length"] == "128"


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"graph": "portable", "opset": 18}, "opset 18 is not among 23 to 24, those of a portable graph"),
        ({"opset": 20, "graph": "portable"}, "opset 20 is not among 23 to 24, those of a portable graph"),
        ({"block_size": 48}, "block_size 48 is no power of two"),
        ({"precision": "int2"}, "input should be 'fp32', 'fp16', 'int8', 'int8_static' or 'int4'"),
        ({"precision": ""}, "precision: value should have at least 1 item"),
    ],
)
def test_options_that_do_not_fit(bert_pruned, tmp_path, options, sentence):
    with pytest.raises(UserError, match=sentence):
        dsee_compress.export(bert_pruned, output=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
