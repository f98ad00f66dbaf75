"""What `prune` offers: goals, steps, slimming, distillation."""

from itertools import pairwise

import pytest
import torch

import dsee_compress
from dsee_compress import architectures
from dsee_compress.adapters import model as adapters
from dsee_compress.costs.flops import Flops
from dsee_compress.errors import UserError
from dsee_compress.models import config_of
from dsee_compress.pruning import masking
from dsee_compress.store.manifest import Manifest

from ..fixtures import models


@pytest.mark.parametrize("target", [0.25, 0.4])
@pytest.mark.parametrize("scope", ["global", "per-layer"])
def test_flops_saved_is_met_and_by_the_smallest_cut(bert_tuned, tmp_path, target, scope):
    folder = dsee_compress.prune(
        bert_tuned, output=tmp_path / "out", flops_saved=target, allocation=scope, retune_epochs=0, sequence_length=32
    )
    structure, whole = Manifest.read(folder).structure, Manifest.read(bert_tuned).structure
    cost = Flops(config_of(bert_tuned), 32)
    costs = [cost.of(which) for which in (whole, structure)]
    one_neuron = costs[0] - cost.of(whole.model_copy(update={"neurons": [whole.neurons[0][1:], *whole.neurons[1:]]}))
    slack = 1 if scope == "global" else models.LAYERS
    assert target <= 1 - costs[1] / costs[0] < target + slack * one_neuron / costs[0] + 1e-9


def test_a_cut_to_the_default_is_a_quarter_of_the_flops(bert_tuned, tmp_path):
    folder = dsee_compress.prune(bert_tuned, output=tmp_path / "out", retune_epochs=0)
    structure, whole = Manifest.read(folder).structure, Manifest.read(bert_tuned).structure
    config = config_of(bert_tuned)
    costs = [Flops(config, 128).of(which) for which in (whole, structure)]
    exported = Flops(config, 128, "first token").of(structure)
    assert 0.25 <= 1 - costs[1] / costs[0] < 0.26
    assert Manifest.read(folder).metrics.flops.model_dump() == {
        "dense": costs[0],
        "final": costs[1],
        "saved": 1 - costs[1] / costs[0],
        "exported": exported,
        "exported_saved": 1 - exported / costs[0],
        "first_token": True,
        "sequence_length": 128,
    }


def test_rounded_neurons_are_multiples(bert_tuned, tmp_path):
    folder = dsee_compress.prune(
        bert_tuned, output=tmp_path / "out", neurons=0.3, round_to=8, criterion="combined", retune_epochs=0
    )
    counts = Manifest.read(folder).structure.neuron_counts
    assert all(count % 8 == 0 for count in counts) and sum(counts) < models.LAYERS * models.NEURONS


@pytest.mark.parametrize("scope", ["global", "per-layer"])
@pytest.mark.parametrize("steps", [4, 5])
def test_several_steps_reach_the_flops_though_heads_are_coarse(bert_tuned, tmp_path, scope, steps):
    """A step that overshoots by a head gives neurons back; a later one must not want those that are gone."""
    folder = dsee_compress.prune(
        bert_tuned,
        output=tmp_path / "out",
        flops_saved=0.25,
        allocation=scope,
        steps=steps,
        retune_epochs=1,
        batch_size=64,
    )
    assert Manifest.read(folder).metrics.flops.saved >= 0.25


@pytest.mark.parametrize("goal", [{"flops_saved": 0.25}, {"weights": 0.5}], ids=str)
def test_a_length_that_the_model_does_not_read_is_refused_at_once(bert_tuned, tmp_path, goal):
    with pytest.raises(UserError, match="sequence_length 141 is more than the 140 tokens that the model reads"):
        dsee_compress.prune(bert_tuned, output=tmp_path / "out", sequence_length=141, **goal)


def test_several_steps_end_at_the_same_goal_and_never_bring_a_unit_back(bert_tuned, tmp_path, monkeypatch):
    from dsee_compress.pruning import selection

    kept = []
    units = selection.units

    def watched(*arguments):
        kept.append(units(*arguments))
        return kept[-1]

    monkeypatch.setattr(selection, "units", watched)
    folder = dsee_compress.prune(
        bert_tuned,
        output=tmp_path / "out",
        heads=0.5,
        neurons=0.5,
        allocation="global",
        steps=3,
        retune_epochs=1,
        batch_size=16,
    )
    assert [sum(step.head_counts) for step in kept] == [10, 8, 6]
    assert [sum(step.neuron_counts) for step in kept] == [100, 80, 60]
    for before, after in pairwise(kept):
        for have, stay in zip(before.heads + before.neurons, after.heads + after.neurons, strict=True):
            assert set(stay) <= set(have)
    manifest = Manifest.read(folder)
    assert manifest.structure == kept[-1]
    assert manifest.metrics.removal_max_abs <= 1e-4


def test_steps_of_single_weights_never_bring_one_back_and_end_at_the_goal(bert_tuned, tmp_path, monkeypatch):
    chosen: list[list[torch.Tensor]] = []
    mask = masking.mask_weights
    monkeypatch.setattr(masking, "mask_weights", lambda model, masks: (chosen.append(masks), mask(model, masks))[1])
    folder = dsee_compress.prune(
        bert_tuned, output=tmp_path / "out", weights=0.6, steps=3, criterion="taylor", retune_epochs=1, batch_size=16
    )
    kept = [sum(mask.sum().item() for mask in masks) for masks in chosen]
    assert len(kept) == 3 and kept == sorted(kept, reverse=True)
    for before, after in pairwise(chosen):
        assert not any((later & ~earlier).any() for earlier, later in zip(before, after, strict=True))
    assert Manifest.read(folder).metrics.weight_sparsity == pytest.approx(0.6, abs=1e-3)


def test_two_of_every_four_weights_stay(bert_tuned, tmp_path):
    folder = dsee_compress.prune(
        bert_tuned, output=tmp_path / "out", semi_structured="2:4", retune_epochs=1, batch_size=16
    )
    for _, _, linear in architectures.named_linears(dsee_compress.load(folder)):
        groups = (linear.weight != 0).unflatten(1, (-1, 4)).sum(-1)
        assert (groups == 2).all()


def test_slimming_trains_coefficients_scores_by_them_and_folds_them_away(bert, data, tmp_path):
    tuned = dsee_compress.finetune(
        model=str(bert), data=str(data), output=tmp_path / "tuned", slimming=1e-3, epochs=5, learning_rate=1e-2
    )
    model = adapters.load(tuned)
    gains = [layer.gain.detach() for layer in adapters.updates(model).values() if layer.gain is not None]
    assert len(gains) == 2 * models.LAYERS and not any(torch.equal(gain, torch.ones_like(gain)) for gain in gains)
    pruned = dsee_compress.prune(tuned, output=tmp_path / "pruned", criterion="slimming", retune_epochs=1)
    small = dsee_compress.load(pruned)
    assert not any("gain" in name for name in small.state_dict())
    assert sum(layer.heads for layer in architectures.layers(small)) < models.HEADS * models.LAYERS
    unpruned = dsee_compress.load(tuned)
    batch = {"input_ids": torch.randint(5, 40, (3, 7))}
    torch.testing.assert_close(unpruned(**batch).logits, model(**batch).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "goal", [{"heads": 0.5, "neurons": 0.4}, {"weights": 0.5}, {"semi_structured": "2:4"}], ids=str
)
@pytest.mark.parametrize("slimming", [0.0, 1e-3])
def test_retuning_moves_updates_and_head_and_keeps_every_other_weight_and_every_zero(
    bert, data, tmp_path, goal, slimming
):
    train = {"learning_rate": 1e-2, "batch_size": 32}
    tuned = dsee_compress.finetune(
        model=str(bert), data=str(data), output=tmp_path / "tuned", epochs=1, slimming=slimming, sparse=4, **train
    )
    after = {}
    for epochs in (0, 2):
        made = dsee_compress.prune(
            tuned, output=tmp_path / f"retuned-{epochs}", retune_epochs=epochs, criterion="magnitude", **goal, **train
        )
        after[epochs] = dsee_compress.load(made).state_dict()
    for name, before in after[0].items():
        now = after[2][name]
        if any(part in name for part in ("query.weight", "value.weight", "pooler", "classifier")):
            assert not torch.equal(now, before), f"{name} learned nothing"
            assert torch.equal(now == 0, before == 0) or "bias" in name
        else:
            assert torch.equal(now, before), f"{name} is frozen"


@pytest.mark.parametrize("decomposition", ["svd", "magnitude", "random"])
def test_another_decomposition_places_other_entries(bert, data, bert_tuned, tmp_path, decomposition):
    folder = dsee_compress.finetune(
        model=str(bert),
        data=str(data),
        output=tmp_path / "out",
        epochs=1,
        decomposition=decomposition,
        rank=3,
        sparse=5,
    )
    ours, usual = (adapters.updates(adapters.load(path)) for path in (folder, bert_tuned))
    places = [
        {place: set(zip(linear.rows.tolist(), linear.columns.tolist(), strict=True)) for place, linear in each.items()}
        for each in (ours, usual)
    ]
    assert all(len(found) == 5 for found in places[0].values())
    assert places[0] != places[1]


def test_distillation_is_one_option_and_draws_towards_the_model_before(bert_tuned, tmp_path):
    before = dsee_compress.load(bert_tuned)
    ids = torch.randint(5, 30, (64, 8), generator=torch.Generator().manual_seed(0))
    apart = {}
    for distill in (False, True):
        folder = dsee_compress.prune(
            bert_tuned,
            output=tmp_path / str(distill),
            distill=distill,
            retune_epochs=4,
            batch_size=16,
            learning_rate=1e-2,
        )
        assert Manifest.read(folder).metrics.validation["accuracy"] >= 0.75
        with torch.no_grad():
            apart[distill] = (dsee_compress.load(folder)(ids).logits - before(ids).logits).abs().mean()
    assert apart[True] < apart[False]
