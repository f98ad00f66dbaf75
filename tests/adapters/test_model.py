import pytest
import torch

from dsee_compress import architectures
from dsee_compress.adapters import model as adapters
from dsee_compress.configs import FinetuneConfig
from dsee_compress.errors import GateError, UserError

from ..fixtures import decoders, models

EVERY_ROLE = ["query", "key", "value", "attention_output", "ffn_in", "ffn_out"]
"""Of an FFN without a gate."""


def randomised(family: str, targets=("query", "value"), seed: int = 0):
    """A small model with updates that are not zero."""
    model = models.build(family, seed=seed)
    adapters.insert(model, FinetuneConfig(model="x", data="x", rank=3, sparse=6, targets=list(targets)))
    torch.manual_seed(seed + 1)
    for layer in adapters.updates(model).values():
        torch.nn.init.normal_(layer.up, std=0.1)
        torch.nn.init.normal_(layer.values, std=0.1)
    return model


def random_ids(family: str, shape=(3, 11)) -> torch.Tensor:
    return torch.randint(5, 200, shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("targets", [["query", "value"], ["ffn_out"], EVERY_ROLE])
def test_insert_trains_updates_and_head_and_nothing_else(family, targets):
    model = models.build(family)
    before = model(random_ids(family)).logits
    adapters.insert(model, FinetuneConfig(model="x", data="x", rank=2, sparse=4, targets=targets))
    assert torch.equal(model(random_ids(family)).logits, before)
    assert {role for _, role in adapters.updates(model)} == set(targets)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    head = set(adapters.task_head(model))
    assert head and head <= trained
    assert all(name.rpartition(".")[2] in {"up", "down", "values"} for name in trained - head)
    counted = adapters.count(model)
    assert counted["trainable_parameters"] + counted["task_head_parameters"] == sum(
        parameter.numel() for parameter in model.parameters() if parameter.requires_grad
    )
    body = {name: p for name, p in models.build(family).named_parameters() if name not in head}
    assert counted["base_parameters"] == sum(parameter.numel() for parameter in body.values())


def test_a_training_step_moves_the_update_and_leaves_the_base(family):
    model = randomised(family)
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    moved = {n: p.clone() for n, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(random_ids(family), labels=torch.tensor([0, 1, 1])).loss.backward()
    optimizer.step()
    now = dict(model.named_parameters())
    assert all(torch.equal(now[name], before) for name, before in frozen.items())
    assert not any(torch.equal(now[name], before) for name, before in moved.items())


def test_merge_gives_plain_linears_with_the_same_logits(family):
    model = randomised(family, EVERY_ROLE)
    before = model(random_ids(family)).logits
    adapters.merge(model)
    assert not adapters.updates(model)
    assert type(architectures.layers(model)[0].linear("query")) is torch.nn.Linear
    torch.testing.assert_close(model(random_ids(family)).logits, before, atol=1e-5, rtol=0)


@pytest.mark.parametrize("build, family", [(models.build, "modernbert"), (decoders.build, "llama")])
def test_a_gate_carries_an_update(build, family):
    model, ids = build(family), random_ids(family) % 90
    before = model(ids).logits
    adapters.insert(model, FinetuneConfig(model="x", data="x", rank=3, sparse=6, targets=["ffn_gate", "query"]))
    gates = [layer for (_, role), layer in adapters.updates(model).items() if role == "ffn_gate"]
    assert len(gates) == len(architectures.layers(model))
    torch.manual_seed(1)
    for gate in gates:
        torch.nn.init.normal_(gate.up, std=0.1)
        torch.nn.init.normal_(gate.values, std=0.1)
    updated = model(ids).logits
    assert not torch.allclose(updated, before, atol=1e-3)
    adapters.merge(model)
    torch.testing.assert_close(model(ids).logits, updated, atol=1e-5, rtol=0)


def test_a_gate_where_the_ffn_has_none():
    with pytest.raises(UserError, match="targets: a bert model has no ffn_gate; it has query, key, value, attention_o"):
        adapters.insert(models.build("bert"), configured(targets=["query", "ffn_gate"]))


def test_merge_of_a_diverged_update_is_stopped_with_its_place(family):
    model = randomised(family)
    with torch.no_grad():
        adapters.updates(model)[(1, "value")].up.fill_(float("nan"))
    with pytest.raises(GateError, match="not finite in value"):
        adapters.merge(model)


def test_equal_supports_of_rows_and_columns_are_not_one_tensor():
    """Loading copies into both buffers; were they one, the columns would overwrite the rows."""
    from dsee_compress.adapters.layer import DseeLinear

    place = torch.zeros(4, dtype=torch.int64)
    layer = DseeLinear(torch.nn.Linear(5, 5), 1, 1.0, place, place, torch.Generator())
    layer.rows.copy_(torch.arange(4))
    assert not layer.columns.any()


def configured(**options) -> FinetuneConfig:
    return FinetuneConfig.parse({"model": "x", "data": "x", "rank": 3, "sparse": 6, "alpha": 4.0} | options)


def test_patterns_give_each_linear_its_rank_entries_and_alpha():
    model = models.build("bert")
    config = configured(
        targets=EVERY_ROLE,
        rank_pattern=r"query=5,[01]\.value=0,.*\.ffn_in=2",
        sparse_pattern={"value": 0, "ffn_out": 9},
        alpha_pattern=["2.query=1.5,query=10"],
    )
    adapters.insert(model, config)
    found = {
        place: (layer.up.shape[1], len(layer.values), layer.scale) for place, layer in adapters.updates(model).items()
    }
    for index in range(models.LAYERS):
        assert found[index, "query"] == (5, 6, (1.5 if index == 2 else 10.0) / 5)
        assert found[index, "key"] == (3, 6, 4.0 / 3)
        assert found[index, "ffn_in"] == (2, 6, 4.0 / 2)
        assert found[index, "ffn_out"] == (3, 9, 4.0 / 3)
    assert (0, "value") not in found and (1, "value") not in found, "rank 0 and N 0 are no update"
    assert found[2, "value"] == (3, 0, 4.0 / 3)


@pytest.mark.parametrize(
    "pattern, name",
    [
        ("query", "3.query"),
        (r"3\.query", "13.query"),
        ("uery", "3.query"),
        (r"[0-2]\.value", "1.value"),
        (r".*\.ffn_in", "11.ffn_in"),
        ("query|value", "0.value"),
        ("attention_output", "0.ffn_out"),
    ],
)
def test_patterns_match_as_in_peft(pattern, name):
    from peft.utils.other import get_pattern_key

    assert adapters.matches(pattern, name) == (get_pattern_key([pattern], name) == pattern)


def test_a_pattern_that_matches_no_target_is_refused():
    with pytest.raises(UserError, match=r"rank_pattern: 'ffn_in' matches no target; they are called 0.query"):
        adapters.insert(models.build("bert"), configured(rank_pattern={"ffn_in": 4}))


def test_patterns_that_leave_nothing_to_train_are_refused():
    with pytest.raises(UserError, match="0 for every target"):
        adapters.insert(models.build("bert"), configured(rank_pattern={".*": 0}, sparse=0))


def test_a_default_of_zero_trains_what_a_pattern_names():
    model = models.build("bert")
    adapters.insert(model, configured(rank=0, sparse=0, rank_pattern={"1.value": 2}))
    assert list(adapters.updates(model)) == [(1, "value")]
