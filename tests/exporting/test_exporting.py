import inspect
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from dsee_compress import architectures
from dsee_compress.errors import GateError
from dsee_compress.evaluation import parity
from dsee_compress.evaluation.inputs import random_batches
from dsee_compress.evaluation.session import Session
from dsee_compress.exporting import files, fusion, graph, rewriting
from dsee_compress.exporting.passes import dynamic, eager, first_token

from ..fixtures import models
from ..fixtures.graphs import STRUCTURES, changed, copied, resized, write


def require_fused(path: Path) -> fusion.NodeCount:
    return fusion.require_fused(files.load(path), path.name, models.LAYERS)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_layer_is_one_attention_and_one_gelu_node_with_its_own_heads(family, structure, graphs):
    import onnx

    path = graphs.fused(family, structure)
    counted = require_fused(path)
    assert counted.nodes < fusion.count_nodes(files.load(graphs.portable(family, structure))).nodes
    nodes = [node for node in onnx.load(path).graph.node if node.op_type in ("Attention", "MultiHeadAttention")]
    heads = [next(a.i for a in node.attribute if a.name == "num_heads") for node in nodes]
    assert heads == STRUCTURES[structure][0]


def test_weights_that_go_one_by_one_are_those_of_the_exporter():
    program = graph.exported(resized("bert", "whole"), 23)
    wanted = program.model_proto
    assert len(wanted.graph.initializer) > 40
    assert files.of_program(program).model.SerializeToString() == wanted.SerializeToString()


def test_a_trace_that_tests_share_is_that_of_each_model():
    first, second = (models.build("bert", seed=seed).eval() for seed in (1, 2))
    graph.exported(first, 23)
    shared, own = graph.exported(second, 23), inspect.unwrap(graph.exported)(second, 23)
    found = []
    for program in (shared, own):
        program.optimize()
        found.append(sorted(entry.raw_data for entry in program.model_proto.graph.initializer))
    assert found[0] == found[1] and len(found[0]) > 40


def test_a_graph_whose_attention_stays_several_nodes_is_refused_with_the_node_that_does_not_fit():
    program = graph.exported(resized("mpnet", "whole"), 23)
    program.optimize()
    softmax = next(node for node in program.model.graph if node.op_type == "Softmax")
    softmax.inputs[0].producer().op_type = "Mul"
    rewriting.rewrite(program.model, eager.RULES)
    why = f"Softmax {softmax.name} is next to Mul {softmax.inputs[0].producer().name}, and the fusion looks for Add"
    with pytest.raises(
        GateError, match="gate 'fusion' failed: m has 2 attention and 3 GELU nodes for 3 layers, and 1"
    ) as no:
        fusion.require_fused(files.of_program(program), "m", models.LAYERS)
    assert str(no.value).endswith(why)


@pytest.mark.parametrize(
    "structure, opset",
    [*((structure, 18) for structure in STRUCTURES), ("unequal", 17), ("unequal", 20)],
)
def test_onnx_runtime_equals_pytorch_on_shapes_and_padding_that_were_not_traced(family, structure, opset, graphs):
    model = resized(family, structure)
    with Session(graphs.fused(family, structure, opset), threads=1) as session:
        shapes = [(1, 1), (1, 5), (2, 33), (7, 12), (3, 100)]
        batches = random_batches(shapes, 200, session.inputs, pad_token=model.config.pad_token_id)
        assert any((batch["attention_mask"] == 0).any() for batch in batches)
        forward = parity.torch_forward(model.double())
        for batch in batches:
            difference = abs(session.forward(batch) - forward(batch)).max()
            assert difference < 1e-4


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_last_layer_computes_the_first_token_alone(family, structure, graphs, tmp_path):
    model = resized(family, structure)
    table, path = architectures.of(model), copied(graphs.fused(family, structure), tmp_path)
    before = by_token(path)
    narrowed = first_token.Narrowed(*((11, 1) if table.one_query else (10, 0)))
    assert changed(path, path, partial(first_token.narrow, one_query=table.one_query)) == narrowed
    require_fused(path)
    require_one_layer_less(before, by_token(path), table.one_query)
    require_logits(path, model)


def test_the_last_layer_of_a_portable_graph_computes_the_first_token_alone(family, graphs, tmp_path):
    import onnx

    model, path = resized(family, "unequal"), copied(graphs.portable(family, "unequal"), tmp_path)
    table, before = architectures.of(model), by_token(path)
    narrowed = first_token.Narrowed(*((14, 1) if table.one_query else (11, 0)))
    assert changed(path, path, partial(first_token.narrow, one_query=table.one_query)) == narrowed
    assert require_fused(path)
    opened = onnx.load(path)
    onnx.checker.check_model(opened, full_check=True)
    given = {name for node in opened.graph.node for name in node.output}
    assert {entry.name for entry in opened.graph.value_info} <= given, "no shape is told of a tensor that is gone"
    require_one_layer_less(before, by_token(path), table.one_query)
    require_logits(path, model)


@pytest.mark.parametrize(
    "changes", [{"pos_att_type": ["c2p"]}, {"pos_att_type": ["p2c"]}, {"relative_attention": False}], ids=str
)
def test_debertas_attention_is_one_node_whatever_it_adds_by_position(changes, tmp_path):
    model = resized("deberta-v2", "unequal", **changes)
    path = write(model, tmp_path / "model.onnx", "fused", 18)
    require_fused(path)
    require_logits(path, model)


def by_token(path, batch=5, tokens=13) -> Counter[str]:
    """How many products and activations give something for each token, as ONNX Runtime reports the size of each."""
    import onnx

    opened = onnx.load(path)
    operators = {"MatMul": "product", "Attention": "attention", "MultiHeadAttention": "attention"}
    operators |= dict.fromkeys(("Gelu", "BiasGelu"), "gelu")
    kinds = {node.output[0]: operators[node.op_type] for node in opened.graph.node if node.op_type in operators}
    opened.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in kinds)
    runtime = onnxruntime.InferenceSession(opened.SerializeToString())
    names = [entry.name for entry in runtime.get_inputs()]
    feed = random_batches([(batch, tokens)], 200, names)[0]
    arrays = runtime.run([*kinds], {name: feed[name] for name in names})
    return Counter(kind for kind, array in zip(kinds.values(), arrays, strict=True) if tokens in array.shape)


def require_one_layer_less(before: Counter[str], after: Counter[str], attention: bool) -> None:
    """Nothing of the last layer is computed for each token, but for what leads to an attention of many nodes."""
    a_layer = {kind: count // models.LAYERS for kind, count in before.items()}
    assert before - after == Counter(a_layer if attention else {"product": 3, "gelu": 1})
    assert not after - before


def require_logits(path, model) -> None:
    """Those of PyTorch, with padding at the end of rows and between tokens."""
    with Session(path, threads=1) as session:
        batches = random_batches([(1, 1), (5, 12), (4, 33)], 200, session.inputs, pad_token=model.config.pad_token_id)
        batches[1]["attention_mask"][:, 4::3] = 0
        for batch in batches:
            assert abs(session.forward(batch) - parity.torch_forward(model)(batch)).max() < 1e-4


def test_a_graph_whose_head_reads_another_token_is_left_as_it_is(graphs):
    import onnx

    model = files.load(graphs.fused("bert", "unequal"))
    opened = model.model
    opened.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1), "second"))
    head = next(node for node in opened.graph.node if node.op_type == "Gather" and "layer_norm" in node.input[0])
    head.input[1] = "second"
    before = opened.SerializeToString(deterministic=True)
    assert first_token.narrow(model) == first_token.Narrowed(0, 0)
    assert opened.SerializeToString(deterministic=True) == before


def test_sums_and_normalisations_are_one_node_but_on_the_cpu(tmp_path):
    """Embeddings, too: in the file for a card, and for the CPU not even in what a session makes of it."""
    import onnx

    model, answers = resized("bert", "unequal"), []
    together = {"EmbedLayerNormalization", "SkipLayerNormalization"}
    for provider, found in (("cpu", set()), ("cuda", together)):
        path = write(model, tmp_path / "model.onnx", "fused", 18, provider)
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        assert {node.op_type for node in onnx.load(tmp_path / "loaded.onnx").graph.node} & together == found
        with Session(path, threads=1) as session:
            batch = random_batches([(6, 15)], 200, session.inputs, pad_token=model.config.pad_token_id)[0]
            batch["token_type_ids"][:, 7:] = 1
            answers.append(session.forward(batch))
    wanted = parity.torch_forward(model.double())(batch)
    assert all(abs(answer - wanted).max() < 1e-5 for answer in answers)


@pytest.mark.parametrize("place", ["left", "anywhere"])
def test_padding_need_not_stand_at_the_end(family, place, graphs):
    """ONNX Runtime's Attention may count the real tokens, too, which is right only where they come first."""
    model = resized(family, "unequal")
    with Session(graphs.fused(family, "unequal"), threads=1) as session:
        batch = random_batches([(6, 15)], 200, session.inputs, pad_token=model.config.pad_token_id)[0]
        holes = np.random.default_rng(0).random((6, 15)) < 0.6
        batch["attention_mask"] = batch["attention_mask"][:, ::-1].copy() if place == "left" else holes.astype(np.int64)
        difference = abs(session.forward(batch) - parity.torch_forward(model.double())(batch)).max()
    assert difference < 1e-4


def test_int8_keeps_the_fused_nodes_and_stays_near(family, graphs, tmp_path):
    import onnx

    model, path = resized(family, "unequal"), graphs.fused(family, "unequal")
    whole = sum(node.op_type == "Attention" for node in onnx.load(path).graph.node)
    for reduce_range in (False, True):
        changed(path, tmp_path / "int8.onnx", partial(dynamic.quantise, reduce_range=reduce_range))
        kinds = [node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node]
        assert kinds.count("QAttention") == whole == (0 if family.startswith("deberta") else models.LAYERS)
        assert "Attention" not in kinds and kinds.count("MatMulInteger") >= 3 * models.LAYERS
        assert require_fused(tmp_path / "int8.onnx")
        with Session(path, threads=1) as full, Session(tmp_path / "int8.onnx", threads=1) as small:
            batch = random_batches([(8, 20)], 200, full.inputs, pad_token=model.config.pad_token_id)[0]
            exact, rounded = full.forward(batch), small.forward(batch)
        assert 0 < abs(exact - rounded).max() < 0.1 * abs(exact).max() + 0.05


def test_reduced_range_weights_use_seven_bits(graphs, tmp_path):
    import onnx

    path = graphs.fused("bert", "whole")
    for reduce_range, limit in ((True, 64), (False, 128)):
        changed(path, tmp_path / "int8.onnx", partial(dynamic.quantise, reduce_range=reduce_range))
        lower = onnx.load(tmp_path / "int8.onnx").graph
        weights = {node.input[1] for node in lower.node if node.op_type == "MatMulInteger"}
        largest = max(
            abs(onnx.numpy_helper.to_array(tensor).astype(int)).max()
            for tensor in lower.initializer
            if tensor.name in weights
        )
        assert limit / 2 < largest <= limit
