import pytest
import torch

from dsee_compress import architectures
from dsee_compress.errors import UserError

from ..fixtures import models


def test_the_table_names_every_linear_of_a_layer(family):
    layer = architectures.layers(models.build(family))[0]
    named = {id(layer.linear(role)) for role in layer.architecture.linears}
    linears = {id(module) for module in layer.module.modules() if isinstance(module, torch.nn.Linear)}
    assert named == linears and len(named) == len(layer.architecture.linears)


def test_counts_are_read_from_the_model(family):
    for layer in architectures.layers(models.build(family)):
        assert (layer.heads, layer.head_size, layer.neurons) == (models.HEADS, models.HEAD_SIZE, models.NEURONS)


def test_an_unknown_family_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"'t5' is not supported; supported are: bert, roberta"):
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
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, longest + 1), 7))
