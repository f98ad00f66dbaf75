"""ModernBERT taken apart, beside the model of transformers."""

import pytest
import torch
from torch import nn

from dsee_compress import architectures

from ..fixtures import models


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"classifier_pooling": "mean"},
        {"attention_bias": True, "mlp_bias": True, "norm_bias": True},
        {"head": "token"},
    ],
    ids=["first token", "mean", "biases", "token"],
)
def test_taken_apart_a_model_is_what_it_was(changes):
    """With padding that layers of local attention do not see."""
    ids, mask = torch.randint(5, 90, (3, 30)), torch.arange(30) < torch.tensor([[30], [17], [4]])
    whole = models.whole("modernbert", **changes)
    expected = whole(ids, attention_mask=mask.long()).logits
    model = architectures.take_apart(whole)
    torch.testing.assert_close(model(ids, attention_mask=mask.long()).logits, expected, atol=1e-6, rtol=0)
    for layer in architectures.layers(model):
        linears = [module for module in layer.module.modules() if isinstance(module, nn.Linear)]
        assert {*map(id, linears)} == {id(layer.linear(place)) for place in architectures.of(model).linears}


def test_a_layer_keeps_its_own_heads_and_neurons():
    """One head, and another number of heads, are computed with their rows alone."""
    model, heads, neurons = models.build("modernbert"), [1, 3, 2], [7, 40, 1]
    architectures.resize(model, heads, neurons)
    layers = architectures.layers(model)
    assert [layer.heads for layer in layers] == heads and [layer.neurons for layer in layers] == neurons
    assert [layer.linear("ffn_gate").weight.shape[0] for layer in layers] == neurons
    assert model(torch.randint(5, 90, (3, 20))).logits.shape == (3, 2)


def test_every_module_of_a_head_is_there():
    for head in ("sequence", "token"):
        model = models.build("modernbert", head=head)
        names = {name for name, _ in model.named_modules()}
        assert architectures.task_head(model.config) == ("head", "classifier") and {"head", "classifier"} <= names
