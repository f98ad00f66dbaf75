import copy
import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

import dsee_compress
from dsee_compress import tasks
from dsee_compress.errors import GateError, UserError
from dsee_compress.evaluation import parity
from dsee_compress.evaluation.generator import OnnxGenerator
from dsee_compress.evaluation.inputs import random_prompts
from dsee_compress.evaluation.session import Session
from dsee_compress.exporting import files, probe
from dsee_compress.exporting.precision import Rules
from dsee_compress.interfaces import decoder
from dsee_compress.store.structure import Structure

from ..fixtures import decoders, graphs
from ..fixtures.decoder_stages import TASK, pruned, unequal, write_prune

GENERATION = tasks.of(TASK)
OPSETS = {"fused": 18, "portable": 23}
RULES = Rules(reduce_range=True, signed_activations=False, block_size=16)


@pytest.fixture(scope="module", params=decoders.FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module", params=OPSETS)
def style(request):
    return request.param


@pytest.fixture(scope="module")
def written(family, style, tmp_path_factory):
    """An fp32 graph, with what a session of transformers needs beside it, and the model that it was made from."""
    path, model = tmp_path_factory.mktemp("decoder") / "model.onnx", pruned(family)
    graphs.write(model, path, style, OPSETS[style])
    model.config.save_pretrained(path.parent)
    return path, model


def shapes(values) -> dict[str, list]:
    return {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in values
    }


def test_inputs_and_outputs_are_optimums_with_each_layers_own_heads(written, family):
    graph = onnx.load(written[0]).graph
    inputs, outputs = shapes(graph.input), shapes(graph.output)
    assert list(inputs)[:3] == ["input_ids", "attention_mask", "position_ids"]
    assert inputs["attention_mask"] == ["batch_size", "total_sequence_length"]
    assert outputs["logits"] == ["batch_size", "sequence_length", decoders.VOCABULARY]
    for layer, heads in enumerate(unequal(family).head_counts):
        for part in ("key", "value"):
            past = inputs[f"past_key_values.{layer}.{part}"]
            assert past == ["batch_size", heads, "past_sequence_length", decoders.HEAD_SIZE]
            assert outputs[f"present.{layer}.{part}"][1] == heads
    optional = inputs.keys() & {entry.name for entry in graph.initializer}
    assert optional == {"logits_to_keep"} and inputs["logits_to_keep"] == [1]
    assert len(inputs) == 3 + 2 * decoders.LAYERS + 1 and len(outputs) == 1 + 2 * decoders.LAYERS


def test_each_layer_is_one_attention_node_and_the_mask_a_few(written, style):
    path, model = written
    counted = decoder.require_fused(model, files.load(path), path.name)
    assert counted.attention == decoders.LAYERS
    assert counted.nodes < 20 + 20 * decoders.LAYERS
    domains = {node.domain for node in onnx.load(path).graph.node}
    assert domains <= ({""} if style == "portable" else {"", "com.microsoft"})


def test_onnx_runtime_equals_pytorch_with_and_without_a_past(written):
    path, model = written
    proof = decoder.prove(copy.deepcopy(model), path, GENERATION)
    assert proof.max_abs < 1e-4 and proof.label_agreement == 1.0


def test_the_model_is_as_it_was_after_its_export(written, family):
    batch = random_prompts([(2, 9)], decoders.VOCABULARY)[0]
    assert np.array_equal(parity.torch_forward(written[1])(batch), parity.torch_forward(pruned(family))(batch))


@settings(max_examples=2)
@given(counts=st.lists(st.integers(1, 3), min_size=decoders.LAYERS, max_size=decoders.LAYERS))
def test_any_head_counts(family, counts, tmp_path_factory):
    path = tmp_path_factory.mktemp("counts") / "model.onnx"
    model = pruned(
        family, Structure(heads=[list(range(count)) for count in counts], neurons=[[0, 5]] * decoders.LAYERS)
    )
    graphs.write(model, path, "fused", 18)
    model.config.save_pretrained(path.parent)
    assert decoder.prove(copy.deepcopy(model), path, GENERATION).max_abs < 1e-4


def test_a_window_hides_what_is_before_it(tmp_path):
    """Of query heads with keys of their own, which are another operator than shared ones."""
    path, shape = tmp_path / "model.onnx", {"num_key_value_heads": decoders.HEADS}
    model, wide = decoders.build("mistral", **shape), decoders.build("mistral", **shape, sliding_window=None)
    model.config.save_pretrained(tmp_path)
    graphs.write(model, path, "fused", 18)
    assert decoder.prove(copy.deepcopy(model), path, GENERATION).max_abs < 1e-4
    with pytest.raises(GateError, match="gate 'export' failed"):
        decoder.prove(wide, path, GENERATION)


def test_a_wrong_graph_is_caught(written, style, tmp_path):
    """A weight of another scale, then an attention node that is gone: the gates say what they compared and counted."""
    path, model = written
    opened = onnx.load(path)
    weight = next(
        entry
        for entry in opened.graph.initializer
        if entry.name.endswith("mlp.c_proj.bias") or "norm.weight" in entry.name
    )
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.5, weight.name))
    onnx.save(opened, tmp_path / "model.onnx")
    model.config.save_pretrained(tmp_path)
    with pytest.raises(GateError, match="gate 'export' failed"):
        decoder.prove(copy.deepcopy(model), tmp_path / "model.onnx", GENERATION)
    kinds = ("Attention", "MultiHeadAttention", "GroupQueryAttention")
    opened.graph.node.remove(next(node for node in opened.graph.node if node.op_type in kinds))
    onnx.save(opened, tmp_path / "model.onnx")
    with pytest.raises(GateError, match="has 2 attention nodes for 3 layers"):
        decoder.require_fused(model, files.load(tmp_path / "model.onnx"), "model.onnx")


@pytest.mark.parametrize("name, least", [("fp16", 45), ("int8", 20), ("int4", 10)])
def test_lower_precisions_stay_near_with_a_past_too(written, style, name, least, tmp_path):
    path, model = written
    lower = tmp_path / "model.onnx"
    graphs.lower(path, lower, name, RULES, list, decoder.PASSES)
    model.config.save_pretrained(tmp_path)
    decoder.require_fused(model, files.load(lower), lower.name)
    batch = random_prompts([(4, 40)], decoders.VOCABULARY)[0]
    real = batch["attention_mask"] == 1
    with OnnxGenerator(path) as full, OnnxGenerator(lower) as small:
        for steps in (0, 5):
            wanted, found = decoder._read(full, batch, steps)[real], decoder._read(small, batch, steps)[real]
            assert probe.decibels(wanted, found) > least
        tokens, mask = (torch.as_tensor(batch[key]) for key in ("input_ids", "attention_mask"))
        wanted, found = (model.forward(tokens, mask, logits_to_keep=2).logits.numpy() for model in (full, small))
        assert found.shape == (4, 2, decoders.VOCABULARY) and probe.decibels(wanted, found) > least


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_a_tied_vocabulary_is_stored_once_and_in_int8(written, family, name, tmp_path):
    path, _ = written
    graphs.lower(path, tmp_path / "model.onnx", name, RULES, list, decoder.PASSES)
    graph = onnx.load(tmp_path / "model.onnx").graph
    values = decoders.VOCABULARY * decoders.HEADS * decoders.HEAD_SIZE
    matrices = [entry for entry in graph.initializer if np.prod(entry.dims) == values]
    assert len(matrices) == (1 if family == "gpt2" else 2)
    assert {entry.data_type for entry in matrices} <= {onnx.TensorProto.UINT8, onnx.TensorProto.INT8}
    assert "MatMul" not in {node.op_type for node in graph.node}


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_rows_that_are_no_whole_blocks_are_looked_up_all_the_same(written, name, tmp_path):
    path, model = written
    graphs.lower(path, tmp_path / "model.onnx", name, replace(RULES, block_size=32), list, decoder.PASSES)
    model.config.save_pretrained(tmp_path)
    batch = random_prompts([(4, 20)], decoders.VOCABULARY)[0]
    with OnnxGenerator(path) as full, OnnxGenerator(tmp_path / "model.onnx") as small:
        assert probe.decibels(decoder._read(full, batch, 0), decoder._read(small, batch, 0)) > 10


@pytest.mark.parametrize("family", decoders.FAMILIES)
def test_a_pruned_decoder_becomes_a_folder_that_generates_its_text(family, tmp_path):
    source = write_prune(family, tmp_path / "prune")
    folder = dsee_compress.export(source, output=tmp_path / "export", precision="fp32,fp16,int8,int4")
    manifest = json.loads((folder / "dsee.json").read_text())
    assert manifest["metrics"]["export_max_abs"] < 1e-4
    heads = sum(unequal(family).head_counts)
    assert manifest["metrics"]["memory_bytes_per_token"] == 4 * 2 * heads * decoders.HEAD_SIZE
    assert (folder / "generation_config.json").is_file()
    tokens = torch.as_tensor(AutoTokenizer.from_pretrained(folder)("w5 w7 w80")["input_ids"])[None]
    wanted = pruned(family).generate(tokens, max_new_tokens=12, do_sample=False)
    for name in ("model", "model_fp16", "model_int8", "model_int4"):
        with OnnxGenerator(folder / f"{name}.onnx") as generator:
            text = generator.generate(tokens, max_new_tokens=12, do_sample=False)
        assert text[0, :3].tolist() == [5, 7, 80]
        if name == "model":
            assert torch.equal(text, wanted)


def test_static_int8_is_refused_for_decoders(tmp_path):
    source = write_prune("gpt2", tmp_path / "prune")
    with pytest.raises(UserError, match="precision int8_static is not there for gpt2, only fp32, fp16, int8, int4"):
        dsee_compress.export(source, output=tmp_path / "export", precision="int8_static")
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize("family", decoders.FAMILIES)
def test_a_decoder_for_a_phone_has_its_ort_files(family, tmp_path):
    source = write_prune(family, tmp_path / "prune")
    folder = dsee_compress.export(source, output=tmp_path / "export", target="mobile", block_size=16)
    for name in ("model.ort", "model_int8.ort"):
        with Session(folder / name) as live:
            assert "past_key_values.2.value" in live.inputs
            batch = random_prompts([(2, 9)], decoders.VOCABULARY)[0] | live.of_a_prompt(2)
            assert live.forward(batch).shape == (2, 1, decoders.VOCABULARY)


@pytest.mark.optimum
@pytest.mark.parametrize("family", decoders.FAMILIES)
def test_optimum_runs_a_folder_whose_layers_have_the_heads_of_its_config(family, tmp_path):
    from optimum.onnxruntime import ORTModelForCausalLM

    whole = Structure(heads=[list(range(decoders.UNITS[family]))] * 3, neurons=[[0], [1, 2], [3]])
    folder = dsee_compress.export(
        write_prune(family, tmp_path / "prune", whole), output=tmp_path / "export", precision="fp32"
    )
    optimum = ORTModelForCausalLM.from_pretrained(folder)
    batch = random_prompts([(3, 9)], decoders.VOCABULARY)[0]
    inputs = {name: torch.as_tensor(batch[name]) for name in ("input_ids", "attention_mask")}
    options = {"max_new_tokens": 10, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    with OnnxGenerator(folder / "model.onnx") as ours:
        assert torch.equal(optimum.generate(**inputs, **options), ours.generate(**inputs, **options))
