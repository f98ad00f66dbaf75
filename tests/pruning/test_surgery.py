"""Masked and physically smaller models are the same function."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsee_compress import architectures
from dsee_compress.adapters import model as adapters
from dsee_compress.checkpoint import Structure
from dsee_compress.pruning import masking, surgery

from ..adapters.test_model import EVERY_ROLE, randomised
from ..fixtures import models


def subsets(count: int):
    return st.lists(st.integers(0, count - 1), min_size=1, max_size=count, unique=True).map(sorted)


structures = st.builds(
    Structure,
    heads=st.lists(subsets(models.HEADS), min_size=models.LAYERS, max_size=models.LAYERS),
    neurons=st.lists(subsets(models.NEURONS), min_size=models.LAYERS, max_size=models.LAYERS),
)


@pytest.mark.parametrize("targets", [["query", "value"], EVERY_ROLE], ids=["query-value", "all"])
def test_removal_is_exact_for_any_structure(family, targets):
    ids = torch.randint(5, 200, (4, 13))
    attention = (torch.arange(13) < torch.tensor([[13], [1], [6], [9]])).long()
    original = randomised(family, targets)

    @given(structures)
    def check(structure: Structure) -> None:
        model = copy.deepcopy(original)
        masking.mask_structure(model, structure)
        masked = model(ids, attention).logits
        adapters.merge(model)
        merged = model(ids, attention).logits
        surgery.remove(model, structure)
        smaller = model(ids, attention).logits
        torch.testing.assert_close(merged, masked, atol=1e-5, rtol=0)
        torch.testing.assert_close(smaller, masked, atol=1e-5, rtol=0)

    check()


def test_query_key_value_lose_the_same_heads_and_the_output_their_columns(family):
    model = randomised(family)
    adapters.merge(model)
    before = {role: linear for index, role, linear in architectures.named_linears(model) if index == 1}
    structure = Structure(heads=[[0], [1, 3], [0, 1, 2, 3]], neurons=[[0], [2, 5], list(range(models.NEURONS))])
    surgery.remove(model, structure)
    after = {role: linear for index, role, linear in architectures.named_linears(model) if index == 1}
    rows = [*range(8, 16), *range(24, 32)]
    for role in set(after) - {"attention_output", "ffn_in", "ffn_out"}:  # with those of positions
        assert torch.equal(after[role].weight, before[role].weight[rows])
        assert torch.equal(after[role].bias, before[role].bias[rows])
    assert torch.equal(after["attention_output"].weight, before["attention_output"].weight[:, rows])
    assert torch.equal(after["attention_output"].bias, before["attention_output"].bias)
    assert torch.equal(after["ffn_in"].weight, before["ffn_in"].weight[[2, 5]])
    assert torch.equal(after["ffn_in"].bias, before["ffn_in"].bias[[2, 5]])
    assert torch.equal(after["ffn_out"].weight, before["ffn_out"].weight[:, [2, 5]])
    assert [layer.heads for layer in architectures.layers(model)] == [1, 2, 4]


def test_a_layer_is_never_left_empty(family):
    model = randomised(family)
    adapters.merge(model)
    empty = Structure(heads=[[], [0], [0]], neurons=[[0], [0], [0]])
    with pytest.raises(ValueError, match="at least one head and one neuron"):
        surgery.remove(model, empty)
