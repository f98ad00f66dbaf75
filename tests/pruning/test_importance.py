import pytest
import torch

from dsee_compress import architectures
from dsee_compress.errors import UserError
from dsee_compress.pruning import importance

from ..adapters.test_model import EVERY_ROLE, randomised
from ..fixtures import models


def test_head_score_is_the_sum_of_the_update_over_its_rows_in_query_and_value(family):
    """Written out with the model's own head count: a fixed 12, or alpha / r left out, would show."""
    for layer in architectures.layers(randomised(family)):
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
        torch.testing.assert_close(importance.head_scores(layer, "delta"), torch.tensor(expected))


def test_magnitude_of_heads_is_that_of_the_weight_in_use(family):
    layer = architectures.layers(randomised(family))[0]
    query, value = (layer.linear(role).effective_weight().detach() for role in ("query", "value"))
    expected = [float(query[h * 8 : h * 8 + 8].abs().sum() + value[h * 8 : h * 8 + 8].abs().sum()) for h in range(4)]
    torch.testing.assert_close(importance.head_scores(layer, "magnitude"), torch.tensor(expected))


def test_neuron_score_is_the_update_where_the_ffn_carries_one(family):
    layer = architectures.layers(randomised(family, EVERY_ROLE))[1]
    into, out = layer.linear("ffn_in").update().abs(), layer.linear("ffn_out").update().abs()
    expected = torch.stack([into[neuron].sum() + out[:, neuron].sum() for neuron in range(models.NEURONS)])
    torch.testing.assert_close(importance.neuron_scores(layer, "delta"), expected)
    only_out = architectures.layers(randomised(family, ["ffn_out"]))[1]
    expected = only_out.linear("ffn_out").update().abs().sum(0)
    torch.testing.assert_close(importance.neuron_scores(only_out, "delta"), expected)


def test_neuron_score_is_the_norm_of_its_path_where_the_ffn_carries_no_update(family):
    layer = architectures.layers(randomised(family))[1]
    into, out = layer.linear("ffn_in").weight, layer.linear("ffn_out").weight
    expected = [torch.outer(out[:, neuron], into[neuron]).norm() for neuron in range(models.NEURONS)]
    for criterion in ("delta", "magnitude"):
        torch.testing.assert_close(importance.neuron_scores(layer, criterion), torch.stack(expected))


def test_delta_without_an_update_in_query_or_value_is_refused(family):
    with pytest.raises(UserError, match="--targets query,value"):
        importance.head_scores(architectures.layers(randomised(family, ["ffn_out"]))[0], "delta")
