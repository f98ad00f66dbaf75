"""Pretrained weights in several files: every stage makes of them what it makes of one file."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import dsee_compress
from dsee_compress.errors import UserError

from ..adapters.test_peft import lora
from ..fixtures import models

MANIFESTS = {"dsee.json", "validation.json"}
"""What names times and the fingerprint of the pretrained files."""


def split(folder: Path) -> None:
    """Save the weights in `folder` anew, in parts."""
    model = models.whole("bert")
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="50KB")
    assert len([*folder.glob("model-*.safetensors")]) > 2


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in MANIFESTS}


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "dsee.json").read_text())


def test_the_whole_way_gives_the_same_files(bert, data, tmp_path):
    model = Path(shutil.copytree(bert, tmp_path / "model"))
    made = []
    for change in (lambda folder: None, split):
        change(model)
        tuned = dsee_compress.finetune(model=str(model), data=str(data), output=tmp_path / "finetune", epochs=1)
        pruned = dsee_compress.prune(tuned, output=tmp_path / "prune", retune_epochs=1)
        exported = dsee_compress.export(pruned, output=tmp_path / "export", precision=["fp32", "int8"])
        dsee_compress.validate(exported, max_drop=1, max_compression_drop=1)
        validated = json.loads((exported / "validation.json").read_text())
        stages = [contents(folder) for folder in (tuned, pruned, exported)]
        made.append((stages, {name: validated[name] for name in validated if name != "key"}, manifest(tuned)["inputs"]))
        for folder in (tuned, pruned, exported):
            folder.rename(folder.with_name(f"{folder.name} {len(made)}"))
    (whole, figures, inputs), (parts, same_figures, other_inputs) = made
    for one, other in zip(whole, parts, strict=True):
        assert one.keys() == other.keys()
        assert [name for name in one if one[name] != other[name]] == []
    assert figures == same_figures
    assert inputs["data"] == other_inputs["data"] and inputs["model"] != other_inputs["model"]


def test_another_part_is_another_model(bert, data, tmp_path):
    model = Path(shutil.copytree(bert, tmp_path / "model"))
    split(model)
    options = {"model": str(model), "data": str(data), "output": tmp_path / "finetune", "epochs": 1}
    dsee_compress.finetune(**options)
    models.whole("bert", seed=1).save_pretrained(model, max_shard_size="50KB")
    with pytest.raises(UserError, match=r"finetune was made otherwise .*model"):
        dsee_compress.finetune(**options)


def test_an_adapter_on_a_model_in_parts(bert, data, tmp_path):
    lora("bert", bert, tmp_path / "lora")
    model = Path(shutil.copytree(bert, tmp_path / "model"))
    options = {"model": str(model), "data": str(data)}
    whole = dsee_compress.import_peft(tmp_path / "lora", output=tmp_path / "whole", **options)
    split(model)
    parts = dsee_compress.import_peft(tmp_path / "lora", output=tmp_path / "parts", **options)
    assert contents(whole) == contents(parts)
    assert manifest(whole)["inputs"]["model"] != manifest(parts)["inputs"]["model"]


def test_a_stage_folder_that_was_saved_anew_in_parts(bert_pruned, tmp_path):
    """Its manifest vouches for the one file that the stage wrote."""
    folder = Path(shutil.copytree(bert_pruned, tmp_path / "prune"))
    model = dsee_compress.load(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    for read in (dsee_compress.load, lambda source: dsee_compress.export(source, output=tmp_path / "export")):
        with pytest.raises(UserError, match=r"is missing, .* in parts; a stage keeps them in one file: write the fold"):
            read(folder)
