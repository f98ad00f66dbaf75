import torch

from dsee_compress import architectures
from dsee_compress.adapters import model as adapters
from dsee_compress.pruning import masking
from dsee_compress.store.structure import Structure

from ..adapters.test_model import EVERY_ROLE, randomised
from ..fixtures import models


def train_a_little(model) -> None:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randint(5, 200, (6, 9)), labels=torch.tensor([0, 1, 0, 1, 1, 0])).loss.backward()
        optimizer.step()


def test_training_cannot_wake_a_masked_head_or_neuron(family):
    model = randomised(family, EVERY_ROLE)
    structure = Structure(heads=[[1]] * models.LAYERS, neurons=[[0, 7]] * models.LAYERS)
    masking.mask_structure(model, structure)
    train_a_little(model.train())
    adapters.merge(model)
    for layer in architectures.layers(model):
        for role in set(layer.products) - {"attention_output", "ffn_in", "ffn_out"}:  # with those of positions
            assert not layer.linear(role).weight[:8].any() and not layer.linear(role).bias[:8].any()
            assert layer.linear(role).weight[8:16].all()
        assert not layer.linear("attention_output").weight[:, 16:].any()
        assert not layer.linear("ffn_in").weight[1:7].any() and not layer.linear("ffn_in").bias[8:].any()
        assert not layer.linear("ffn_out").weight[:, 8:].any()


def test_training_keeps_single_weights_at_zero_and_moves_the_others(family):
    model = randomised(family)
    torch.manual_seed(0)
    masks = [torch.randint(0, 2, linear.weight.shape).float() for _, _, linear in architectures.named_linears(model)]
    masking.mask_weights(model, masks)
    before = {key: layer.effective_weight().detach().clone() for key, layer in adapters.updates(model).items()}
    train_a_little(model)
    moved = {key: layer.effective_weight() for key, layer in adapters.updates(model).items()}
    assert all(not torch.equal(before[key], moved[key]) for key in before)
    adapters.merge(model)
    for (_, _, linear), mask in zip(architectures.named_linears(model), masks, strict=True):
        assert not linear.weight[mask == 0].any()
        assert linear.weight[mask == 1].all()
