"""The bundle stage: what its folder and its archive hold, when it is made again, and what it refuses."""

import json
import shutil
import zipfile
from pathlib import Path

import onnx
import pytest
from dsee_compress_cli import main as cli

import dsee_compress
from dsee_compress.errors import GateError, UserError
from dsee_compress.evaluation.session import Session
from dsee_compress.store import lineage
from dsee_compress.store.manifest import BundleManifest, Manifest

FILES = ["README.md", "answers.py", "bench.py", "bundle.json", "calls.py", "dsee.json", "machine.py", "model.onnx"]
FILES += ["opened.py", "predict.py", "requirements.txt", "tagging.py", "tokenizer.json", "usage.py"]


@pytest.fixture(scope="module")
def export(bert_tuned, tmp_path_factory) -> Path:
    pruned = dsee_compress.prune(bert_tuned, output=tmp_path_factory.mktemp("run") / "prune", retune_epochs=0)
    return dsee_compress.export(pruned, output=pruned.parent / "export")


@pytest.fixture
def copy(export, tmp_path) -> Path:
    """Of the export folder, for a test to change."""
    return Path(shutil.copytree(export, tmp_path / "export"))


def refuse(capsys, *arguments: object) -> str:
    assert cli._run(["bundle", *map(str, arguments)], debug=False) == 2
    printed = capsys.readouterr().err.splitlines()
    assert [line for line in printed if line.startswith("error: ")] == printed[-1:]
    return printed[-1]


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_folder_and_the_archive_hold_the_same_whole_bundle(export, tmp_path):
    folder = dsee_compress.bundle(export, output=tmp_path / "bundle")
    assert listed(folder) == FILES and listed(tmp_path) == ["bundle", "bundle.zip"]
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"bundle/{name}" for name in FILES]
        assert all(archive.read(f"bundle/{name}") == (folder / name).read_bytes() for name in FILES)
    for name in ("predict.py", "bench.py"):
        assert "dsee_compress." not in (folder / name).read_text()
    assert (folder / "model.onnx").read_bytes() == (export / "model_int8.onnx").read_bytes()


def test_it_says_what_it_is_and_what_it_was_made_from(export, capsys):
    folder = dsee_compress.bundle(export, output=export.parent / "bundle beside it", precision="fp32")
    described, parent = json.loads((folder / "bundle.json").read_text()), Manifest.read(export)
    assert described["schema"] == 1
    assert (described["artifact"], described["precision"], described["task"]) == (
        "pruned_fp32",
        "fp32",
        "classification",
    )
    assert (described["labels"], described["text"], described["max_length"]) == (["bad", "good"], ["text"], 128)
    assert described["padding"] == {"id": 0, "type_id": 0, "side": "right"}
    assert described["inputs"] == ["input_ids", "attention_mask", "token_type_ids"]
    assert (described["vocabulary_size"], described["longest_input"]) == (500, 140)
    assert described["onnxruntime"] == "1.22"
    assert described["export"] == lineage.fingerprint(export)
    assert described["made_from"]["heads"] == parent.structure.head_counts
    manifest = BundleManifest.read(folder)
    assert lineage.parent_of(folder, manifest) == export
    assert cli._run(["inspect", str(folder)], debug=False) == 0
    assert "pruned_fp32" in capsys.readouterr().out


@pytest.mark.parametrize(
    "neurons, target, precision, needed",
    [
        (0.35, "x86-vnni", "int8", "1.25"),
        (0.35, "x86-vnni", "fp32", "1.22"),
        (0.35, "arm64", "int8", "1.22"),
        (0.2, "x86-vnni", "int8", "1.22"),
    ],
)
def test_an_int8_product_of_17_to_31_columns_asks_x86_for_a_newer_onnxruntime(
    bert_tuned, tmp_path, neurons, target, precision, needed
):
    """Of 40 neurons a layer 26 or 32 stay. Up to 1.24, MatMulInteger of 32 rows and 26 columns is wrong on AMX."""
    pruned = dsee_compress.prune(
        bert_tuned, output=tmp_path / "prune", heads=0, neurons=neurons, allocation="per-layer", retune_epochs=0
    )
    export = dsee_compress.export(pruned, output=tmp_path / "export", target=target, precision=precision)
    bundle = dsee_compress.bundle(export, output=tmp_path / "bundle", precision=precision)
    assert json.loads((bundle / "bundle.json").read_text())["onnxruntime"] == needed
    assert f"onnxruntime>={needed}" in (bundle / "requirements.txt").read_text().splitlines()


def test_the_first_precision_is_taken_where_there_is_no_int8(bert_tuned, tmp_path):
    export = dsee_compress.export(bert_tuned, output=tmp_path / "export", precision="fp32")
    folder = dsee_compress.bundle(export, output=tmp_path / "bundle")
    assert Manifest.read(folder).metrics.artifact == "dense_fp32"


def test_the_same_again_does_nothing_and_brings_back_a_lost_archive(export, tmp_path):
    folder, archive = dsee_compress.bundle(export, output=tmp_path / "bundle"), tmp_path / "bundle.zip"
    (folder / "latency.json").write_text("{}")
    packed, stamps = archive.read_bytes(), {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    dsee_compress.bundle(export, output=folder, precision="int8")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == stamps
    archive.unlink()
    dsee_compress.bundle(export, output=folder)
    assert archive.read_bytes() == packed
    assert listed(tmp_path) == ["bundle", "bundle.zip"]


def test_other_options_name_the_difference_and_overwrite_replaces_both(export, tmp_path, capsys):
    folder = dsee_compress.bundle(export, output=tmp_path / "bundle")
    printed = refuse(capsys, export, "--output", folder, "--precision", "fp32")
    assert "precision was 'int8' and is now 'fp32'); use --overwrite to replace it" in printed
    dsee_compress.bundle(export, output=folder, precision="fp32", overwrite=True)
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        assert archive.read("bundle/model.onnx") == (export / "model.onnx").read_bytes()


def test_external_data_comes_along(copy, tmp_path):
    model = onnx.load(copy / "model_int8.onnx")
    (copy / "model_int8.onnx").unlink()
    onnx.save(model, copy / "model_int8.onnx", save_as_external_data=True, location="model_int8.onnx.data")
    folder = dsee_compress.bundle(copy, output=tmp_path / "bundle")
    assert listed(folder) == sorted([*FILES, "model_int8.onnx.data"])
    Session(folder / "model.onnx")
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        assert "bundle/model_int8.onnx.data" in archive.namelist()


def test_a_tokenizer_that_tokenizers_would_read_otherwise_is_caught(copy, tmp_path):
    """transformers splits special tokens in a text where its config says so; tokenizer.json knows nothing of that."""
    config = copy / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"split_special_tokens": True}))
    with pytest.raises(GateError, match="gate 'bundle' failed: tokenizers and transformers differ on"):
        dsee_compress.bundle(copy, output=tmp_path / "bundle")
    assert listed(tmp_path) == ["export"]


def test_what_cannot_be_bundled_is_one_sentence_and_leaves_nothing(copy, bert_tuned, tmp_path, capsys):
    output = tmp_path / "bundle"
    assert "is the output of finetune; this needs that of export" in refuse(capsys, bert_tuned, "--output", output)
    assert "would lie in" in refuse(capsys, copy, "--output", copy / "bundle")
    assert "or hold it" in refuse(capsys, copy, "--output", tmp_path, "--overwrite")
    assert "precision: input should be 'fp32', 'fp16'" in refuse(capsys, copy, "--output", output, "--precision", "x")
    (copy / "model_int8.onnx").write_bytes(b"no")
    assert "ONNX Runtime cannot load" in refuse(capsys, copy, "--output", output)
    (copy / "model_int8.onnx").unlink()
    assert "model_int8.onnx is missing; export again" in refuse(capsys, copy, "--output", output)
    assert listed(tmp_path) == ["export"]


def test_a_precision_that_was_not_exported(bert_tuned, tmp_path):
    export = dsee_compress.export(bert_tuned, output=tmp_path / "export", precision="int8")
    with pytest.raises(UserError, match="has no fp32 artifact, only int8; choose that, or export fp32, too"):
        dsee_compress.bundle(export, output=tmp_path / "bundle", precision="fp32")


def test_what_is_there_and_is_no_bundle_stays(export, copy, tmp_path, capsys):
    archive = tmp_path / "bundle.zip"
    archive.write_bytes(b"of someone else")
    printed = refuse(capsys, export, "--output", tmp_path / "bundle")
    assert "bundle.zip already exists; choose another output, or use --overwrite to replace it" in printed
    assert archive.read_bytes() == b"of someone else" and not (tmp_path / "bundle").exists()
    assert "already holds the output of export; choose another output" in refuse(capsys, export, "--output", copy)
    (tmp_path / "folder").mkdir()
    assert "is not a stage folder" in refuse(capsys, export, "--output", tmp_path / "folder")


def test_a_bundle_is_no_export(export, tmp_path):
    folder = dsee_compress.bundle(export, output=tmp_path / "bundle")
    with pytest.raises(UserError, match="is the output of bundle; this needs that of export"):
        dsee_compress.benchmark(folder)
