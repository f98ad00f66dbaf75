"""Masked and physically smaller models are the same function."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsee_compress import architectures
from dsee_compress.adapters import model as adapters
from dsee_compress.pruning import masking, surgery
from dsee_compress.store.structure import Structure

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
        merged = adapters.merged_copy(model)
        torch.testing.assert_close(merged(ids, attention).logits, masked, atol=1e-5, rtol=0)
        surgery.remove(model, structure)
        torch.testing.assert_close(model(ids, attention).logits, masked, atol=1e-5, rtol=0)
        surgery.remove(merged, structure)
        torch.testing.assert_close(merged(ids, attention).logits, masked, atol=1e-5, rtol=0)
        adapters.merge(model)
        for ours, theirs in zip(architectures.named_linears(model), architectures.named_linears(merged), strict=True):
            torch.testing.assert_close(ours[2].weight, theirs[2].weight)

    check()


@pytest.mark.parametrize("slimming", [False, True])
def test_a_cut_model_learns_what_the_masked_one_learns(family, slimming):
    """Retuning the small model is retuning the large one under S1: the gradients are the same entries."""
    structure = Structure(heads=[[0, 2], [3], [0, 1, 2, 3]], neurons=[[1, 2, 30], [0], list(range(5, 40))])
    model = randomised(family, EVERY_ROLE)
    if slimming:
        adapters.insert_gains(model)
        for layer in adapters.updates(model).values():
            if layer.gain is not None:
                torch.nn.init.normal_(layer.gain)
        before = model(torch.full((2, 5), 9)).logits
        adapters.fold_gains(model)
        torch.testing.assert_close(model(torch.full((2, 5), 9)).logits, before, atol=1e-5, rtol=0)
        adapters.freeze(model)
    small = copy.deepcopy(model)
    masking.mask_structure(model, structure)
    surgery.remove(small, structure)
    ids, labels = torch.randint(5, 200, (4, 9)), torch.tensor([0, 1, 1, 0])
    for each in (model, small):
        each(ids, labels=labels).loss.backward()
    large, cut = adapters.updates(model), adapters.updates(small)

    def same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)

    width = models.HEAD_SIZE
    for index in range(models.LAYERS):
        rows = [head * width + row for head in structure.heads[index] for row in range(width)]
        for role in ("query", "key", "value"):
            same(cut[index, role].up.grad, large[index, role].up.grad[rows])
            same(cut[index, role].down.grad, large[index, role].down.grad)
        neurons = structure.neurons[index]
        same(cut[index, "ffn_in"].up.grad, large[index, "ffn_in"].up.grad[neurons])
        same(cut[index, "ffn_out"].down.grad, large[index, "ffn_out"].down.grad[:, neurons])
        stays = torch.isin(large[index, "ffn_in"].rows, torch.tensor(neurons))
        same(cut[index, "ffn_in"].values.grad, large[index, "ffn_in"].values.grad[stays])


@pytest.mark.parametrize("targets", [["query", "value"], ["ffn_in"], EVERY_ROLE], ids=["query-value", "ffn", "all"])
@pytest.mark.parametrize("slimming", [False, True])
def test_after_a_cut_updates_and_head_are_trained_and_nothing_else(family, targets, slimming):
    """Were the cut Linears new trainable ones, retuning would train the whole encoder."""
    model = randomised(family, targets)
    if slimming:
        adapters.insert_gains(model)
        adapters.fold_gains(model)
    before = {name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.numel()}
    surgery.remove(model, Structure(heads=[[0, 2], [3], [0, 1, 2, 3]], neurons=[[1, 2, 30], [0], list(range(40))]))
    after = {name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.numel()}
    updates = {name for name, _ in model.named_parameters() if name.rpartition(".")[2] in ("up", "down", "values")}
    assert after <= updates | set(adapters.task_head(model))
    assert before <= updates | set(adapters.task_head(model))
    assert set(adapters.task_head(model)) <= after and after & updates


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
