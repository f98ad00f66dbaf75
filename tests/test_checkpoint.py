import json
import shutil

import pytest
import torch

import dsee_compress
from dsee_compress import checkpoint
from dsee_compress.errors import UserError
from dsee_compress.weights import load_tensors, save_tensors


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    output = tmp_path / "made"
    with pytest.raises(RuntimeError, match="half way"), checkpoint.writing(output, overwrite=False) as folder:
        (folder / "first").write_text("x")
        assert not output.exists()
        raise RuntimeError("half way")
    assert not list(tmp_path.iterdir())
    with checkpoint.writing(output, overwrite=False) as folder:
        (folder / "first").write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_overwrite_replaces_and_a_failure_keeps_what_was_there(tmp_path):
    output = tmp_path / "made"
    for text in ("old", "new"):
        with checkpoint.writing(output, overwrite=True) as folder:
            (folder / text).write_text(text)
            (folder / "dsee.json").write_text(json.dumps({"files": [text]}))
    assert {path.name for path in output.iterdir()} == {"new", "dsee.json"}
    with pytest.raises(RuntimeError), checkpoint.writing(output, overwrite=True):
        raise RuntimeError
    assert {path.name for path in tmp_path.rglob("*")} == {"made", "new", "dsee.json"}


def test_what_a_kill_between_the_two_renames_left_is_put_back(tmp_path):
    """Killed after the old folder stepped aside and before the new one took its name: the old one is not lost."""
    aside = tmp_path / ".made.replaced"
    aside.mkdir()
    (aside / "old").write_text("old")
    with pytest.raises(RuntimeError), checkpoint.writing(tmp_path / "made", overwrite=True):
        raise RuntimeError
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["old"]


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
    stale = tmp_path / ".made.partial"
    stale.mkdir()
    (stale / "half").write_text("x")
    with checkpoint.writing(tmp_path / "made", overwrite=False) as folder:
        assert not list(folder.iterdir())
    assert not stale.exists()


def test_json_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "result.json"
    checkpoint.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        checkpoint.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_fingerprint_follows_weights_and_config_but_not_timings_or_reports(bert_pruned, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(bert_pruned, copy)
    original = checkpoint.fingerprint(bert_pruned)
    assert checkpoint.fingerprint(copy) == original
    manifest = json.loads((copy / "dsee.json").read_text())
    manifest["metrics"]["training"]["seconds"] = 1e6
    (copy / "dsee.json").write_text(json.dumps(manifest))
    (copy / "validation.json").write_text("{}")
    (copy / ".DS_Store").write_text("of a file manager")
    assert checkpoint.fingerprint(copy) == original
    tensors = load_tensors(copy / "model.safetensors")
    name = next(iter(tensors))
    tensors[name].view(-1)[0] += 1e-3
    save_tensors(tensors, copy / "model.safetensors")
    assert checkpoint.fingerprint(copy) != original


def test_loading_is_strict_about_the_described_structure(bert_pruned, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(bert_pruned, copy)
    manifest = json.loads((copy / "dsee.json").read_text())
    manifest["structure"]["neurons"][0] = manifest["structure"]["neurons"][0][:-1]
    (copy / "dsee.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="does not fit the model that its folder describes"):
        dsee_compress.load(copy)


def test_reload_is_bit_equal(pruned):
    first, second = dsee_compress.load(pruned), dsee_compress.load(pruned)
    saved = load_tensors(pruned / "model.safetensors")
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, saved[name]) and torch.equal(tensor, second.state_dict()[name])


def test_a_moved_run_still_knows_its_parents(bert_pruned, tmp_path):
    run = tmp_path / "moved"
    shutil.copytree(bert_pruned.parent, run)
    assert checkpoint.parent_of(run / "prune", checkpoint.read(run / "prune")) == run / "finetune"
    (run / "finetune" / "adapter.safetensors").write_bytes(b"other")
    assert checkpoint.parent_of(run / "prune", checkpoint.read(run / "prune")) is None


def test_a_folder_behind_a_link_knows_its_parents(bert_pruned, tmp_path):
    link = tmp_path / "deep" / "latest"
    link.parent.mkdir()
    link.symlink_to(bert_pruned)
    parent = checkpoint.parent_of(link, checkpoint.read(link))
    assert parent is not None and parent.samefile(bert_pruned.parent / "finetune")


def test_what_a_kill_after_the_last_step_left_is_cleared(tmp_path, bert_pruned):
    output = tmp_path / "made"
    shutil.copytree(bert_pruned, output)
    (tmp_path / ".made.replaced").mkdir()
    checkpoint.resumable(output, {"a": 1})
    there = checkpoint.read(output)
    identity = {**there.inputs, "parent": there.parent.fingerprint}
    assert checkpoint.up_to_date(output, "prune", there.config, identity, overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize("held", ["file", "folder", "stage"])
def test_nothing_but_the_stages_own_output_is_overwritten(bert_pruned, tmp_path, held):
    output = tmp_path / "output"
    if held == "file":
        output.write_text("mine")
    elif held == "folder":
        output.mkdir()
        (output / "thesis.txt").write_text("mine")
    else:
        shutil.copytree(bert_pruned, output)
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    with pytest.raises(UserError, match="choose another output"):
        dsee_compress.export(bert_pruned, output=output, overwrite=True)
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_a_damaged_output_of_the_stage_is_overwritten(bert_pruned, tmp_path):
    output = tmp_path / "output"
    output.mkdir()
    (output / "dsee.json").write_text("{")
    with pytest.raises(UserError, match="is damaged; write the folder again"):
        dsee_compress.export(bert_pruned, output=output, precision="fp32")
    dsee_compress.export(bert_pruned, output=output, precision="fp32", overwrite=True)
    assert checkpoint.read(output).stage == "export"


def test_no_output_takes_the_place_of_its_source(bert_pruned, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(bert_pruned.parent, run)
    for output in (run / "prune", run):
        with pytest.raises(UserError, match="would take the place of"):
            dsee_compress.export(run / "prune", output=output, overwrite=True)
    assert checkpoint.read(run / "prune").stage == "prune"


def test_nothing_is_pickled(bert_pruned, bert_tuned, bert_exported):
    for folder in (bert_pruned, bert_tuned, bert_exported):
        assert not {path.suffix for path in folder.iterdir()} & {".bin", ".pt", ".pth", ".pkl"}


def test_checkpoints_of_another_config_are_not_resumed_from(tmp_path):
    state = checkpoint.resumable(tmp_path / "made", {"rank": 8})
    (state / "checkpoint-1").mkdir()
    assert (checkpoint.resumable(tmp_path / "made", {"rank": 8}) / "checkpoint-1").exists()
    assert not (checkpoint.resumable(tmp_path / "made", {"rank": 4}) / "checkpoint-1").exists()


def test_an_option_that_an_earlier_version_did_not_know_stands_at_its_default(bert_tuned, tmp_path):
    output = tmp_path / "finetune"
    shutil.copytree(bert_tuned, output)
    manifest = json.loads((output / "dsee.json").read_text())
    now = dict(manifest["config"])
    assert manifest["config"].pop("trust_remote_code") is False
    (output / "dsee.json").write_text(json.dumps(manifest))
    assert checkpoint.up_to_date(output, "finetune", now, manifest["inputs"], overwrite=False)
    with pytest.raises(UserError, match="trust_remote_code was False and is now True"):
        checkpoint.up_to_date(output, "finetune", now | {"trust_remote_code": True}, manifest["inputs"], False)
