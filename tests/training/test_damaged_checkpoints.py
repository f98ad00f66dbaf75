"""A checkpoint that was damaged is not gone on from: the one before is, or training starts anew, and says so."""

import shutil

import pytest
import torch

from dsee_compress import tasks
from dsee_compress.errors import UserError
from dsee_compress.store import resume
from dsee_compress.training import callbacks, trainer

from .test_trainer import Killed, _killer, prepare, weights

CLASSIFICATION = tasks.get("classification")

FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "whole.json")


@pytest.fixture(scope="module")
def killed(bert, data, tmp_path_factory):
    """Checkpoints of two epochs of a training that was killed in its third."""
    folder = tmp_path_factory.mktemp("killed") / "checkpoints"
    model, rows, collator, config = prepare(bert, data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks.RichProgress, "on_step_end", _killer(19))
        with pytest.raises(Killed):
            trainer.train(model, CLASSIFICATION, rows, collator, config, 3, folder, "")
    assert {path.name for path in folder.iterdir()} == {"checkpoint-8", "checkpoint-16"}
    return folder


@pytest.fixture
def checkpoints(killed, tmp_path):
    return shutil.copytree(killed, tmp_path / "checkpoints")


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {"cut": cut, "flipped": flip, "empty": lambda path: path.write_bytes(b""), "gone": lambda path: path.unlink()}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("file", FILES)
def test_the_checkpoint_before_is_taken(checkpoints, capsys, file, damage):
    damage(checkpoints / "checkpoint-16" / file)
    found, seconds = callbacks.last_whole_checkpoint(checkpoints)
    assert found == str(checkpoints / "checkpoint-8") and seconds > 0
    assert not (checkpoints / "checkpoint-16").exists()
    told = capsys.readouterr().err
    if (file, damage) == ("whole.json", DAMAGES["gone"]):
        assert not told, "one that a kill left half-written is no news"
    else:
        assert told.startswith(f"{checkpoints}/checkpoint-16/")
        assert told.endswith(" is damaged; training goes on from the checkpoint before\n")
        assert file in told or (file, damage) == ("whole.json", flip), "a flipped digest speaks for the other file"


@pytest.mark.parametrize("mark", ["[" * 100_000, "[]", "1.5", '{"files": {}}', '{"files": {"a": 1}}', "NaN", "\xff"])
def test_a_mark_of_any_content(checkpoints, mark):
    (checkpoints / "checkpoint-16" / "whole.json").write_text(mark, encoding="latin-1")
    assert callbacks.last_whole_checkpoint(checkpoints)[0] == str(checkpoints / "checkpoint-8")


def test_training_goes_on_from_the_checkpoint_before_to_the_same_weights(bert, data, checkpoints, tmp_path, capsys):
    model, rows, collator, config = prepare(bert, data)
    trainer.train(model, CLASSIFICATION, rows, collator, config, 3, tmp_path / "undisturbed", "")
    undisturbed = weights(model)
    cut(checkpoints / "checkpoint-16" / "scheduler.pt")
    model, rows, collator, config = prepare(bert, data)
    trainer.train(model, CLASSIFICATION, rows, collator, config, 3, checkpoints, "")
    assert all(torch.equal(tensor, undisturbed[name]) for name, tensor in weights(model).items())
    assert "checkpoint-16/scheduler.pt is damaged" in capsys.readouterr().err


def test_without_a_whole_one_training_starts_anew(checkpoints, capsys):
    for step in (8, 16):
        cut(checkpoints / f"checkpoint-{step}" / "optimizer.pt")
    assert callbacks.last_whole_checkpoint(checkpoints) == (None, 0.0)
    assert not list(checkpoints.iterdir())
    assert "checkpoint-8/optimizer.pt is damaged; training goes on from the start" in capsys.readouterr().err


def test_a_damaged_choice_of_prune_is_made_again(tmp_path, capsys):
    path = tmp_path / "step-1" / "s1.safetensors"
    made = {"a": torch.arange(4)}
    resume.remembered(path, lambda: made)
    assert torch.equal(resume.remembered(path, dict)["a"], made["a"])
    (path.parent / "checkpoint-8").mkdir()
    flip(path)
    assert torch.equal(resume.remembered(path, lambda: made)["a"], made["a"])
    assert "s1.safetensors is damaged" in capsys.readouterr().err
    assert not (path.parent / "checkpoint-8").exists(), "it was trained under the choice that is lost"


@pytest.mark.parametrize("content", ["{", "[" * 100_000, '{"rank": 4}'])
def test_a_damaged_key_is_told(tmp_path, capsys, content):
    state = resume.state(tmp_path / "made", {"rank": 8})
    (state / "checkpoint-1").mkdir()
    (state / "key.json").write_text(content)
    assert not list(resume.state(tmp_path / "made", {"rank": 8}).glob("checkpoint-*"))
    assert "training starts anew" in capsys.readouterr().err


@pytest.mark.parametrize("loss", [float("inf"), float("nan")])
def test_a_loss_that_is_no_number_ends_training_after_its_epoch(bert, data, tmp_path, monkeypatch, loss):
    """Of one batch in the second of four epochs; the weights stay finite."""
    calls = []

    def compute(self, *args, **kwargs):
        calls.append(1)
        value = original(self, *args, **kwargs)
        return value + (loss if len(calls) == 10 else 0.0)

    original = trainer.DseeTrainer.compute_loss
    monkeypatch.setattr(trainer.DseeTrainer, "compute_loss", compute)
    model, rows, collator, config = prepare(bert, data)
    with pytest.raises(UserError, match=r"training diverged with a learning rate of 0\.001"):
        trainer.train(model, CLASSIFICATION, rows, collator, config, 4, tmp_path, "")
    assert len(calls) == 16
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-8"]
