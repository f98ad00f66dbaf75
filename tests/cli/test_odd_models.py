"""Models whose config.json transformers reads, and can build nothing by."""

import json
import shutil

import yaml

from .shell import by_line, refused


def test_a_rehearsal_finds_a_config_of_no_model(shell, bert, data, tmp_path):
    model = shutil.copytree(bert, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"initializer_range": -1}))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"finetune": {"model": str(model), "data": str(data)}}))
    said = by_line(
        "is of no model: normal expects std >= 0.0", "'initializer_range' expected float, got int (value: -1)"
    )
    refused(shell("run", recipe, "--output", tmp_path / "run", "--dry-run"), said)
