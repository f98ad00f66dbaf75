from typing import get_args

import pytest
import torch

from dsee_compress import architectures
from dsee_compress.adapters import model as adapters
from dsee_compress.configs import Criterion
from dsee_compress.errors import UserError
from dsee_compress.pruning.importance import CRITERIA, Evidence

from ..adapters.test_model import EVERY_ROLE, randomised
from ..fixtures import models


def evidence(model, seed: int = 0) -> Evidence:
    generator = torch.Generator().manual_seed(9)
    batches = []
    for size in (4, 3):
        attention = (torch.arange(7) < torch.randint(2, 8, (size, 1), generator=generator)).long()
        ids = torch.randint(5, 200, (size, 7), generator=generator)
        labels = torch.randint(0, 2, (size,), generator=generator)
        batches.append({"input_ids": ids, "attention_mask": attention, "labels": labels})
    return Evidence(model.eval(), lambda: batches, seed)


def units(model, criterion: str):
    return CRITERIA[criterion].units(evidence(model))


def test_the_registry_is_what_the_option_offers():
    assert {"auto", *CRITERIA} == set(get_args(Criterion))


@pytest.mark.parametrize("criterion", [name for name in CRITERIA if name != "slimming"])
def test_every_criterion_scores_every_unit_and_weight_finitely_and_alike_again(family, criterion):
    model = randomised(family, EVERY_ROLE)
    scores = units(model, criterion)
    assert [len(layer) for layer in scores.heads] == [models.HEADS] * models.LAYERS
    assert [len(layer) for layer in scores.neurons] == [models.NEURONS] * models.LAYERS
    again = units(model, criterion)
    for one, two in zip(scores.heads + scores.neurons, again.heads + again.neurons, strict=True):
        assert torch.isfinite(one).all() and torch.equal(one, two) and not one.requires_grad
    weights = CRITERIA[criterion].weights(evidence(model))
    linears = [linear for _, _, linear in architectures.named_linears(model)]
    assert [score.shape for score in weights] == [linear.weight.shape for linear in linears]
    assert all(torch.isfinite(score).all() and (score >= 0).all() for score in weights)
    assert len(adapters.updates(model)) == len(EVERY_ROLE) * models.LAYERS, "scoring leaves the model as it was"


def test_a_heads_delta_is_the_sum_of_the_update_over_its_rows_in_query_and_value(family):
    """Written out with the model's own head count: a fixed 12, or alpha / r left out, would show."""
    model = randomised(family)
    for layer, scores in zip(architectures.layers(model), units(model, "delta").heads, strict=True):
        expected = []
        for head in range(models.HEADS):
            total = 0.0
            for role in ("query", "value"):
                linear = layer.linear(role)
                sparse = torch.zeros_like(linear.weight)
                sparse[linear.rows, linear.columns] = linear.values
                update = 16.0 / 3 * (linear.up @ linear.down + sparse).detach()
                total += float(update[head * models.HEAD_SIZE : (head + 1) * models.HEAD_SIZE].abs().sum())
            expected.append(total)
        torch.testing.assert_close(scores, torch.tensor(expected))


@pytest.mark.parametrize("criterion", ["magnitude", "combined"])
def test_magnitude_is_of_the_weight_alone_and_combined_of_the_weight_in_use(family, criterion):
    model = randomised(family)
    layer = architectures.layers(model)[0]
    weights = [layer.linear(role) for role in ("query", "value")]
    used = [w.weight if criterion == "magnitude" else w.effective_weight().detach() for w in weights]
    expected = [float(sum(weight[h * 8 : h * 8 + 8].abs().sum() for weight in used)) for h in range(4)]
    torch.testing.assert_close(units(model, criterion).heads[0], torch.tensor(expected))


def test_a_neurons_score_is_the_norm_of_its_path(family):
    model = randomised(family)
    layer = architectures.layers(model)[1]
    into, out = layer.linear("ffn_in").weight, layer.linear("ffn_out").weight
    expected = torch.stack([torch.outer(out[:, neuron], into[neuron]).norm() for neuron in range(models.NEURONS)])
    for criterion in ("delta", "magnitude", "combined"):
        torch.testing.assert_close(units(model, criterion).neurons[1], expected)


def test_a_neurons_delta_is_of_the_update_where_the_ffn_carries_one(family):
    both, only_out = randomised(family, EVERY_ROLE), randomised(family, ["query", "ffn_out"])
    layer = architectures.layers(both)[1]
    into, out = layer.linear("ffn_in").update().detach(), layer.linear("ffn_out").update().detach()
    expected = torch.stack([torch.outer(out[:, neuron], into[neuron]).norm() for neuron in range(models.NEURONS)])
    torch.testing.assert_close(units(both, "delta").neurons[1], expected)
    expected = architectures.layers(only_out)[1].linear("ffn_out").update().detach().norm(dim=0)
    torch.testing.assert_close(units(only_out, "delta").neurons[1], expected)


def test_taylor_is_the_squared_slope_of_the_loss_along_a_units_output(family):
    """Against central differences: each head's columns in the output projection, or a neuron's, scaled by 1 ± h."""
    model = randomised(family).double()
    given = evidence(model)
    scores = units(model, "taylor")
    step = 1e-4

    def slopes(role: str, columns: slice) -> torch.Tensor:
        weight = architectures.layers(model)[1].linear(role).weight
        losses = []
        for factor in (1 + step, 1 - step):
            original = weight.detach().clone()
            with torch.no_grad():
                weight[:, columns] *= factor
                per_example = []
                for batch in given.batches():
                    logits = model(batch["input_ids"], batch["attention_mask"]).logits
                    per_example.append(torch.nn.functional.cross_entropy(logits, batch["labels"], reduction="none"))
                weight.copy_(original)
            losses.append(torch.cat(per_example))
        return (losses[0] - losses[1]) / (2 * step)

    for head in range(models.HEADS):
        expected = slopes("attention_output", slice(head * 8, head * 8 + 8)).square().sum()
        torch.testing.assert_close(scores.heads[1][head].double(), expected, rtol=1e-3, atol=1e-9)
    for neuron in (0, 17, models.NEURONS - 1):
        expected = slopes("ffn_out", slice(neuron, neuron + 1)).square().sum()
        torch.testing.assert_close(scores.neurons[1][neuron].double(), expected, rtol=1e-3, atol=1e-9)


def test_taylor_of_a_unit_that_does_nothing_is_zero(family):
    model = randomised(family)
    with torch.no_grad():
        architectures.layers(model)[2].linear("ffn_out").weight[:, 4] = 0
        architectures.layers(model)[0].linear("attention_output").weight[:, 8:16] = 0
    scores = units(model, "taylor")
    assert scores.neurons[2][4] == 0 and scores.heads[0][1] == 0
    assert (scores.heads[0][[0, 2, 3]] > 0).all()


def test_slimming_is_the_size_of_the_coefficients(family):
    model = randomised(family)
    adapters.insert_gains(model)
    layer = architectures.layers(model)[1]
    with torch.no_grad():
        layer.linear("attention_output").gain.copy_(torch.tensor([1.0, -3.0, 0.0, 2.0]))
    assert units(model, "slimming").heads[1].tolist() == [1.0, 3.0, 0.0, 2.0]
    assert units(model, "slimming").neurons[1].tolist() == [1.0] * models.NEURONS


def test_what_a_criterion_cannot_score_is_refused_with_the_way_out(family):
    with pytest.raises(UserError, match="--targets query,value"):
        units(randomised(family, ["ffn_out"]), "delta")
    with pytest.raises(UserError, match="finetune --slimming"):
        units(randomised(family), "slimming")
    with pytest.raises(UserError, match="not single weights"):
        CRITERIA["slimming"].weights(evidence(randomised(family)))


def test_random_follows_the_seed(family):
    model = randomised(family)
    one, two = (CRITERIA["random"].units(evidence(model, seed)).heads[0] for seed in (1, 2))
    assert not torch.equal(one, two)
