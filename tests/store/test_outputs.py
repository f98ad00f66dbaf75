"""What is there already, and what may take its place."""

import json
import shutil

import pytest

import dsee_compress
from dsee_compress.errors import UserError
from dsee_compress.store import outputs, resume
from dsee_compress.store.manifest import Manifest


def test_what_a_kill_after_the_last_step_left_is_cleared(tmp_path, bert_pruned):
    output = tmp_path / "made"
    shutil.copytree(bert_pruned, output)
    (tmp_path / ".made.replaced").mkdir()
    resume.state(output, {"a": 1})
    there = Manifest.read(output)
    identity = {**there.inputs, "parent": there.parent.fingerprint}
    assert outputs.up_to_date(output, "prune", there.config, identity, overwrite=False)
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
    assert Manifest.read(output).stage == "export"


def test_an_option_that_an_earlier_version_did_not_know_stands_at_its_default(bert_tuned, tmp_path):
    output = tmp_path / "finetune"
    shutil.copytree(bert_tuned, output)
    manifest = json.loads((output / "dsee.json").read_text())
    now = dict(manifest["config"])
    assert manifest["config"].pop("trust_remote_code") is False
    (output / "dsee.json").write_text(json.dumps(manifest))
    assert outputs.up_to_date(output, "finetune", now, manifest["inputs"], overwrite=False)
    with pytest.raises(UserError, match="trust_remote_code was False and is now True"):
        outputs.up_to_date(output, "finetune", now | {"trust_remote_code": True}, manifest["inputs"], False)
