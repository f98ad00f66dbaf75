import pytest
import torch

from dsee_compress.costs.flops import Flops
from dsee_compress.models import config_of

from ..adapters.test_model import random_ids
from ..fixtures import models

WIDTH = models.HEADS * models.HEAD_SIZE
DISTANCES = {"deberta-v3": 2 * 16, "deberta-v2": 2 * 140}
"""Rows of the table of relative positions: buckets, or distances up to the longest input, both ways."""


def once(family: str, length: int) -> int:
    """What the family multiplies outside of its layers: the head, embeddings of another width, a convolution."""
    head = WIDTH * WIDTH + WIDTH * 2
    return head + {"electra": length * 64 * WIDTH, "deberta-v2": length * 3 * WIDTH * WIDTH}.get(family, 0)


def positions(family: str, inner: int, length: int) -> int:
    """Disentangled attention: every distance projected as key and as query, and a product with each token for both."""
    return DISTANCES.get(family, 0) * (2 * WIDTH * inner + 2 * length * inner)


@pytest.mark.parametrize(
    "heads, neurons",
    [([4, 4, 4], [40, 40, 40]), ([1, 3, 2], [7, 30, 1]), ([3, 2, 4], [40, 12, 2]), ([1] * 3, [1, 2, 1])],
)
@pytest.mark.parametrize("length", [16, 100])
def test_count_is_that_of_the_products(family, pretrained, heads, neurons, length):
    """Two a multiply-add: four projections, two attention products and two FFN products a layer, and what is added."""
    products = once(family, length)
    for head_count, neuron_count in zip(heads, neurons, strict=True):
        inner = head_count * models.HEAD_SIZE
        products += length * (4 * WIDTH * inner + 2 * WIDTH * neuron_count + 2 * length * inner)
        products += positions(family, inner, length)
    cost = Flops(config_of(pretrained), length)
    assert cost.of(models.structure(heads, neurons)) == 2 * products


@pytest.mark.parametrize("heads, neurons", [([4, 4, 4], [40, 40, 40]), ([1, 3, 2], [7, 30, 1])])
def test_the_first_token_alone_costs_one_row_of_each_weight_and_heads_as_wide_as_the_model(
    family, pretrained, heads, neurons
):
    length, inner = 50, heads[-1] * models.HEAD_SIZE
    a_row = WIDTH * inner + 2 * WIDTH * neurons[-1]
    config, structure = config_of(pretrained), models.structure(heads, neurons)
    whole = Flops(config, length).of(structure)
    narrow = Flops(config, length, "first token", one_query=False).of(structure)
    assert whole - narrow == 2 * (length - 1) * a_row
    less = (length - 1) * a_row
    if not family.startswith(("deberta", "mpnet")):  # whose attention is exported as it is
        less += (length - 1) * 3 * WIDTH * inner + 2 * length * length * inner - 2 * length * heads[-1] * WIDTH
    assert whole - Flops(config, length, "first token").of(structure) == 2 * less


def test_counting_leaves_a_live_models_config_as_it_is(family):
    model = models.build(family)
    before = model.config._attn_implementation, model(random_ids(family)).logits
    Flops(model.config, 16).of(models.structure([2] * models.LAYERS, [3] * models.LAYERS))
    assert model.config._attn_implementation == before[0]
    assert model(random_ids(family), attention_mask=torch.ones((3, 11), dtype=torch.int64)).logits.shape == (3, 2)
    assert torch.equal(model(random_ids(family)).logits, before[1])


def test_a_family_that_gates_its_neurons_and_turns_what_its_heads_ask():
    """Of local attention every product is computed; transformers 4 multiplies positions by frequencies, too."""
    length, heads, neurons = 50, [1, 3, 2], [7, 30, 1]
    products = WIDTH * WIDTH + WIDTH * 2
    for head_count, neuron_count in zip(heads, neurons, strict=True):
        inner = head_count * models.HEAD_SIZE
        products += length * (4 * WIDTH * inner + 3 * WIDTH * neuron_count + 2 * length * inner)
    config, structure = models.build("modernbert").config, models.structure(heads, neurons)
    whole = Flops(config, length).of(structure)
    assert whole - 2 * products in (0, 2 * models.LAYERS * length * models.HEAD_SIZE // 2)
    spared = (length - 1) * WIDTH * (heads[-1] * models.HEAD_SIZE + 3 * neurons[-1])
    assert whole - Flops(config, length, "first token").of(structure) == 2 * spared
