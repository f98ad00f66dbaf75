"""What a folder says is read as the version that wrote it meant it, and written as it was read."""

import json
from pathlib import Path

import pytest

from dsee_compress.errors import UserError
from dsee_compress.store import lineage
from dsee_compress.store.manifest import ExportManifest, FinetuneManifest, Manifest, PruneManifest

FORMER = json.loads(Path(__file__).with_name("former_manifests.json").read_text())
"""As they were written before metrics were typed, with shorter structures."""
FINGERPRINTS = {
    "finetuned": "731fb2f038b17e49ae50165405a20c8a65218a22035a952cb0308b0b388dce2a",
    "retuned": "423e5bd86a6f5435af31c96bd532f3ea67a4519afbe7a50a48af0432efa06eb3",
    "pruned": "c14b1d4176735b06bf4546056246f44140c5b34fbc98a2d23cfff97a5e57ca92",
    "exported": "f232b41a79d1d44371dc3382f67e8da1cbc0999e49fbc881e2fc149f6fc8d21d",
    "exported dense": "ecd7cb9dc4ab1b477b84faec143e62e94f90a142bb496ca0c8fef832e5356344",
    "bundled": "fe1fad98ff47cb7a9bab46dddb82aab8c8f427face8107019ebc67490029ac5d",
    "exported decoder": "4377056c3ea2e1e35ff6d17dd80e438ddb68d6e9e12844069e50cddcfeffbe8d",
}
"""Of folders with these manifests alone, as they were computed then: children know their parents by them."""


@pytest.mark.parametrize("name", FORMER)
def test_a_folder_of_before_says_the_same_and_keeps_its_fingerprint(tmp_path, name):
    file = tmp_path / "dsee.json"
    file.write_text(json.dumps(FORMER[name]))
    assert lineage.fingerprint(tmp_path) == FINGERPRINTS[name]
    Manifest.read(tmp_path).write(tmp_path)
    assert json.loads(file.read_text()) == FORMER[name]


def test_figures_have_types(tmp_path):
    written = {}
    for name in FORMER:
        written[name] = tmp_path / name
        written[name].mkdir()
        (written[name] / "dsee.json").write_text(json.dumps(FORMER[name]))
    tuned = FinetuneManifest.read(written["finetuned"]).metrics
    assert (tuned.trainable_parameters, tuned.training.steps, tuned.validation["accuracy"]) == (1182, 320, 1.0)
    assert PruneManifest.read(written["retuned"]).metrics.training.device == "cpu"
    untouched = PruneManifest.read(written["pruned"]).metrics
    assert untouched.training.seconds == 0 and untouched.training.model_dump() == {}
    exported = ExportManifest.read(written["exported"]).metrics
    assert exported.int8 is not None and exported.int8.reduce_range is False
    assert exported.vocabulary is not None and exported.vocabulary.after == 31
    decoder = ExportManifest.read(written["exported decoder"]).metrics
    assert decoder.narrowed.nodes == 0 and "narrowed" not in decoder.model_dump()


def test_what_a_later_version_measures_is_kept_for_people(tmp_path):
    content = FORMER["pruned"] | {"metrics": FORMER["pruned"]["metrics"] | {"joules": 3}}
    (tmp_path / "dsee.json").write_text(json.dumps(content))
    assert Manifest.read(tmp_path).metrics.model_dump()["joules"] == 3


def test_a_folder_of_another_stage_is_refused_by_name(tmp_path):
    (tmp_path / "dsee.json").write_text(json.dumps(FORMER["pruned"]))
    assert Manifest.read(tmp_path, "finetune", "prune").stage == "prune"
    with pytest.raises(UserError, match=r"is the output of prune; this needs that of export$"):
        ExportManifest.read(tmp_path)
    with pytest.raises(UserError, match=r"is the output of prune; this needs that of finetune or export$"):
        Manifest.read(tmp_path, "finetune", "export")
