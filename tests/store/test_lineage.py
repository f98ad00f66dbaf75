"""Which folder was made from which."""

import json
import shutil

import pytest

import dsee_compress
from dsee_compress.errors import UserError
from dsee_compress.store import lineage
from dsee_compress.store.manifest import Manifest
from dsee_compress.weights import load_tensors, save_tensors


def test_fingerprint_follows_weights_and_config_but_not_timings_or_reports(bert_pruned, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(bert_pruned, copy)
    original = lineage.fingerprint(bert_pruned)
    assert lineage.fingerprint(copy) == original
    manifest = json.loads((copy / "dsee.json").read_text())
    manifest["metrics"]["training"]["seconds"] = 1e6
    (copy / "dsee.json").write_text(json.dumps(manifest))
    (copy / "validation.json").write_text("{}")
    (copy / ".DS_Store").write_text("of a file manager")
    assert lineage.fingerprint(copy) == original
    tensors = load_tensors(copy / "model.safetensors")
    name = next(iter(tensors))
    tensors[name].view(-1)[0] += 1e-3
    save_tensors(tensors, copy / "model.safetensors")
    assert lineage.fingerprint(copy) != original


def test_a_moved_run_still_knows_its_parents(bert_pruned, tmp_path):
    run = tmp_path / "moved"
    shutil.copytree(bert_pruned.parent, run)
    assert lineage.parent_of(run / "prune", Manifest.read(run / "prune")) == run / "finetune"
    (run / "finetune" / "adapter.safetensors").write_bytes(b"other")
    assert lineage.parent_of(run / "prune", Manifest.read(run / "prune")) is None


def test_a_folder_behind_a_link_knows_its_parents(bert_pruned, tmp_path):
    link = tmp_path / "deep" / "latest"
    link.parent.mkdir()
    link.symlink_to(bert_pruned)
    parent = lineage.parent_of(link, Manifest.read(link))
    assert parent is not None and parent.samefile(bert_pruned.parent / "finetune")


def test_no_output_takes_the_place_of_its_source(bert_pruned, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(bert_pruned.parent, run)
    for output in (run / "prune", run):
        with pytest.raises(UserError, match="would take the place of"):
            dsee_compress.export(run / "prune", output=output, overwrite=True)
    assert Manifest.read(run / "prune").stage == "prune"
