import pytest
import torch

from dsee_compress import architectures
from dsee_compress.errors import UserError

from ..adapters.test_model import EVERY_ROLE
from ..fixtures import models


def test_the_table_names_every_linear_of_a_layer(family):
    layer = architectures.layers(models.build(family))[0]
    named = {id(layer.linear(place)) for place in layer.places}
    linears = {id(module) for module in layer.module.modules() if isinstance(module, torch.nn.Linear)}
    assert named == linears and len(named) == len(layer.places)


def test_taken_apart_a_model_is_what_it_was(family):
    ids, whole = torch.randint(5, 90, (3, 20)), models.whole(family)
    assert torch.equal(models.build(family)(ids).logits, whole(ids).logits)


@pytest.mark.parametrize("types", [["p2c", "c2p"], ["c2p"], ["p2c"], []])
@pytest.mark.parametrize("share", [True, False])
def test_position_linears_are_those_of_the_config(types, share):
    """A layer has what transformers builds for its config, and a smaller one still runs."""
    model = models.build("deberta-v2", pos_att_type=types, share_att_key=share)
    own = {"c2p": "position_key", "p2c": "position_query"}
    expected = set() if share else {own[kind] for kind in types}
    layer = architectures.layers(model)[0]
    assert set(layer.places) - set(EVERY_ROLE) == expected
    assert {place for place, _, _ in layer.units} == set(layer.places)
    architectures.resize(model, [1, 3, 2], [7, 1, 40])
    assert model(torch.randint(5, 90, (2, 9))).logits.shape == (2, 2)


def test_counts_are_read_from_the_model(family):
    for layer in architectures.layers(models.build(family)):
        assert (layer.heads, layer.head_size, layer.neurons) == (models.HEADS, models.HEAD_SIZE, models.NEURONS)


def test_an_unknown_family_is_refused_with_the_known_ones():
    encoders = "bert, camembert, deberta-v2, distilbert, electra"
    supported = f"{encoders}, gpt2, llama, mistral, modernbert, mpnet, qwen2, qwen3, roberta, xlm-roberta"
    with pytest.raises(UserError, match=f"'t5' is not supported; supported are: {supported}$"):
        architectures.get("t5")


def test_resized_layers_run(family):
    model = models.build(family)
    architectures.resize(model, [1, 3, 4], [7, 1, 40])
    assert [layer.heads for layer in architectures.layers(model)] == [1, 3, 4]
    assert model(torch.randint(5, 90, (2, 9))).logits.shape == (2, 2)


@pytest.mark.parametrize("heads, neurons", [([0, 1, 1], [1, 1, 1]), ([1, 1, 1], [1, 0, 1])])
def test_a_layer_with_nothing_left_is_refused(family, heads, neurons):
    with pytest.raises(ValueError, match="at least one head and one neuron"):
        architectures.resize(models.build(family), heads, neurons)


def test_longest_input_is_what_the_model_takes(family):
    model = models.build(family)
    longest = architectures.longest_input(model.config)
    model(torch.full((1, longest), 7))
    if family == "deberta-v3":  # relative positions alone run at any length; what they were trained for counts
        assert longest == model.config.max_position_embeddings
        return
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, longest + 1), 7))
