"""Decoders through the tables: taken apart, updated, cut, saved: always the same function."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers.pytorch_utils import Conv1D

from dsee_compress import architectures
from dsee_compress.adapters import model as adapters
from dsee_compress.configs import FinetuneConfig
from dsee_compress.costs.flops import Flops
from dsee_compress.pruning import masking, surgery
from dsee_compress.pruning.importance import CRITERIA, Evidence
from dsee_compress.store.structure import Structure
from dsee_compress.weights import load_tensors, load_weights, save_tensors, weights_of

from ..fixtures import decoders, models

WIDTH = decoders.HEADS * decoders.HEAD_SIZE


@pytest.fixture(params=(*decoders.FAMILIES, *decoders.KIN))
def decoder(request: pytest.FixtureRequest) -> str:
    return request.param


def random_ids(shape=(3, 11)) -> torch.Tensor:
    return torch.randint(1, decoders.VOCABULARY, shape, generator=torch.Generator().manual_seed(3))


def updated(family: str) -> nn.Module:
    """A small decoder with updates on all Linears that are not zero."""
    model = decoders.build(family)
    targets = ["query", "key", "value", "attention_output", "ffn_in", "ffn_out"]
    adapters.insert(model, FinetuneConfig(model="x", data="x", rank=3, sparse=6, targets=targets))
    torch.manual_seed(1)
    for layer in adapters.updates(model).values():
        nn.init.normal_(layer.up, std=0.1)
        nn.init.normal_(layer.values, std=0.1)
    return model


def structures(family: str):
    def subsets(count: int):
        return st.lists(st.integers(0, count - 1), min_size=1, max_size=count, unique=True).map(sorted)

    def layers(count: int):
        return st.lists(subsets(count), min_size=decoders.LAYERS, max_size=decoders.LAYERS)

    return st.builds(Structure, heads=layers(decoders.UNITS[family]), neurons=layers(decoders.NEURONS))


def test_taken_apart_a_model_is_what_it_was(decoder):
    ids, reference = random_ids(), decoders.whole(decoder)
    model = decoders.build(decoder)
    assert not [module for module in model.modules() if isinstance(module, Conv1D)]
    torch.testing.assert_close(model(ids).logits, reference(ids).logits, atol=1e-6, rtol=0)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in reference.parameters())


def test_the_table_names_every_linear_of_a_layer(decoder):
    layer = architectures.layers(decoders.build(decoder))[0]
    named = {id(layer.linear(place)) for place in layer.places}
    assert named == {id(module) for module in layer.module.modules() if isinstance(module, nn.Linear)}
    assert (layer.heads, layer.head_size) == (decoders.UNITS[decoder], decoders.HEAD_SIZE)
    assert layer.neurons == decoders.NEURONS


def test_the_first_query_heads_belong_to_the_first_key_head():
    """transformers repeats each key head for neighbouring query heads; a group owns those."""
    layer = architectures.layers(decoders.build("llama"))[0]
    assert layer.width("query") == layer.width("attention_output") == 2 * decoders.HEAD_SIZE
    assert layer.width("key") == layer.width("value") == decoders.HEAD_SIZE


def test_removal_is_exact_for_any_structure(decoder):
    ids = random_ids((4, 13))
    attention = (torch.arange(13) < torch.tensor([[13], [1], [6], [9]])).long()
    original = updated(decoder)

    @given(structures(decoder))
    def check(structure: Structure) -> None:
        model = copy.deepcopy(original)
        masking.mask_structure(model, structure)
        masked = model(ids, attention_mask=attention).logits
        surgery.remove(model, structure)
        torch.testing.assert_close(model(ids, attention_mask=attention).logits, masked, atol=1e-5, rtol=0)
        adapters.merge(model)
        torch.testing.assert_close(model(ids, attention_mask=attention).logits, masked, atol=1e-5, rtol=0)

    check()


def test_a_cut_model_generates_with_its_cache_as_without(decoder):
    model = updated(decoder)
    units = decoders.UNITS[decoder]
    surgery.remove(model, Structure(heads=[[0, 1], [units - 1], list(range(units))], neurons=[[3], [1, 2], [5, 7, 9]]))
    adapters.merge(model)
    ids = random_ids((4, 7))
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 20, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(model.generate(ids, **options), model.generate(ids, **options, use_cache=False))


def test_tied_embeddings_are_stored_once_and_stay_tied(decoder, tmp_path):
    for tied in (True, False):
        model = decoders.build(decoder, tie_word_embeddings=tied)
        stored = weights_of(model)
        assert ("lm_head.weight" in stored) is not tied
        save_tensors(stored, tmp_path / "model.safetensors")
        again = architectures.from_config(model.config).eval()
        load_weights(again, load_tensors(tmp_path / "model.safetensors"), tmp_path)
        assert torch.equal(again(random_ids()).logits, model(random_ids()).logits)
        assert (again.get_input_embeddings().weight is again.get_output_embeddings().weight) is tied


def test_updates_alone_are_trained(decoder):
    model = updated(decoder)
    trained = {name.rpartition(".")[2] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"up", "down", "values"}
    counted = adapters.count(model)
    assert counted["task_head_parameters"] == 0
    assert counted["base_parameters"] == sum(p.numel() for p in decoders.whole(decoder).parameters())


@pytest.mark.parametrize("heads, neurons", [([3, 3, 3], [40, 40, 40]), ([1, 3, 2], [7, 30, 1])])
def test_flops_are_those_of_the_blocks(decoder, heads, neurons):
    """Two a multiply-add: projections, two attention products, the FFN's two or three; not the vocabulary's."""
    length, products = 16, 0
    queries = decoders.HEADS // decoders.UNITS[decoder]
    gated = 2 if decoder == "gpt2" else 3
    for head_count, neuron_count in zip(heads, neurons, strict=True):
        keys = head_count * decoders.HEAD_SIZE
        inner = keys * queries
        products += length * (2 * WIDTH * inner + 2 * WIDTH * keys + gated * WIDTH * neuron_count + 2 * length * inner)
    counted = Flops(decoders.build(decoder).config, length).of(models.structure(heads, neurons))
    assert counted == pytest.approx(2 * products, rel=2e-3)  # rotary angles are a few products, too


@pytest.mark.parametrize("criterion", ["taylor", "magnitude", "combined", "delta"])
def test_a_head_without_effect_has_the_lowest_score(decoder, criterion):
    model = updated(decoder)
    silent = Structure(
        heads=[list(range(1, decoders.UNITS[decoder]))] * decoders.LAYERS,
        neurons=[[index for index in range(decoders.NEURONS) if index != 5]] * decoders.LAYERS,
    )
    masking.mask_structure(model, silent)
    ids = random_ids((4, 9))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    scores = CRITERIA[criterion].units(Evidence(model, lambda: [batch], seed=0))
    for heads, neurons in zip(scores.heads, scores.neurons, strict=True):
        assert heads.shape == (decoders.UNITS[decoder],) and neurons.shape == (decoders.NEURONS,)
        if criterion in ("taylor", "combined"):  # the others look at the weight or the update alone, unmasked
            assert heads.argmin() == 0 and neurons.argmin() == 5
