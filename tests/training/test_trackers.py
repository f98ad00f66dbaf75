"""Who is told of a training: what arrives, where it stays, and that it changes nothing else."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from dsee_compress_cli import main as cli
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import dsee_compress
from dsee_compress.configs import FinetuneConfig, PruneConfig
from dsee_compress.errors import UserError
from dsee_compress.store.manifest import Manifest
from dsee_compress.training import trackers
from dsee_compress.weights import load_tensors

SHORT = {"epochs": 2, "batch_size": 128, "rank": 2, "sparse": 3}
"""Two steps an epoch."""


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Step and value of what tensorboard shows of a folder."""
    told = EventAccumulator(str(folder)).Reload()
    return {name: [(each.step, each.value) for each in told.Scalars(name)] for name in told.Tags()["scalars"]}


@pytest.fixture(scope="module")
def told(bert, data, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("told") / "finetune"
    return dsee_compress.finetune(model=str(bert), data=str(data), output=output, report_to="tensorboard", **SHORT)


def test_tensorboard_shows_the_loss_of_each_epoch_beside_the_output(told):
    assert {path.name for path in told.parent.iterdir()} == {"finetune", "finetune.tensorboard"}
    shown = scalars(told.parent / "finetune.tensorboard")
    assert [step for step, _ in shown["train/loss"]] == [2, 4]
    assert shown["train/loss"][-1][1] == pytest.approx(Manifest.read(told).metrics.training.loss, abs=1e-4)
    assert len(shown["train/learning_rate"]) == 2


def test_a_model_is_the_same_whoever_is_told_of_its_training(told, bert, data, tmp_path):
    untold = dsee_compress.finetune(model=str(bert), data=str(data), output=tmp_path / "finetune", **SHORT)
    assert [path.name for path in tmp_path.iterdir()] == ["finetune"]
    ours, others = (load_tensors(folder / "adapter.safetensors") for folder in (told, untold))
    assert all(torch.equal(tensor, others[name]) for name, tensor in ours.items())
    assert Manifest.read(told).config == Manifest.read(untold).config
    stamp = (told / "dsee.json").stat().st_mtime_ns
    dsee_compress.finetune(model=str(bert), data=str(data), output=told, **SHORT)
    assert (told / "dsee.json").stat().st_mtime_ns == stamp, "it is up to date"


def test_each_step_of_pruning_has_its_own(told):
    options = {"heads": 0.5, "steps": 2, "retune_epochs": 1, "batch_size": 128, "report_to": ["tensorboard"]}
    pruned = dsee_compress.prune(told, output=told.parent / "prune", **options)
    for number in (1, 2):
        assert len(scalars(pruned.with_name("prune.tensorboard") / f"step-{number}")["train/loss"]) == 1


def test_what_is_not_installed_is_told_before_anything_is_read(told, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None if name == "wandb" else importlib.util.find_spec(name))
    sentence = "report_to wandb needs a package that is not installed; pip install wandb"
    for command in (
        ["finetune", "--model", Manifest.read(told).config["model"], "--data", Manifest.read(told).task.data],
        ["prune", told],
    ):
        arguments = [*command, "--output", tmp_path / "out", "--report-to", "tensorboard,wandb"]
        assert cli._run([*map(str, arguments)], debug=False) == 2
        assert capsys.readouterr().err.splitlines()[-1] == f"error: {sentence}"
    recipe = tmp_path / "recipe.json"
    finetune = {"model": Manifest.read(told).config["model"], "data": Manifest.read(told).task.data}
    recipe.write_text(json.dumps({"finetune": finetune, "prune": {"report_to": ["wandb"]}}))
    assert cli._run(["run", str(recipe), "--output", str(tmp_path / "out"), "--dry-run"], debug=False) == 2
    assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.json"]


def test_who_may_be_told():
    options = {"model": "m", "data": "d"}
    assert FinetuneConfig.parse(options | {"report_to": "tensorboard, mlflow"}).report_to == ["tensorboard", "mlflow"]
    assert "report_to" not in PruneConfig.parse({"report_to": "wandb"}).resolved()
    with pytest.raises(UserError, match=r"report_to\.0: input should be 'tensorboard', 'wandb' or 'mlflow'"):
        FinetuneConfig.parse(options | {"report_to": "the boss"})
