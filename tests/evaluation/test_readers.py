"""Gate 'readers': other libraries load the folder and answer as we do, or the stage stops."""

import json
import shutil

import pytest
from transformers import AutoTokenizer

import dsee_compress
from dsee_compress import GateError
from dsee_compress.evaluation import readers
from dsee_compress.store.structure import Structure

from ..fixtures import decoder_stages, decoders
from ..stages.test_token_classification import write_tagged

TEXTS = [("the film was lovely",), ("a dreary story about some people",), ("cold",)]


def question(folder, head, texts, graph="model.onnx") -> readers.Question:
    return readers.Question(folder, folder / graph, head, AutoTokenizer.from_pretrained(folder), 24, texts)


@pytest.mark.optimum
@pytest.mark.parametrize("graph", ["model.onnx", "model_int8.onnx"])
def test_readers_of_a_classifier_answer_as_we_do(bert_exported, graph):
    rows = readers.compare(question(bert_exported, "sequence", TEXTS, graph), "onnx")
    assert [(row["reader"], row["compared"]) for row in rows] == [
        ("Optimum", "logits"),
        ("transformers' pipeline", "logits"),
    ]
    assert all(row["texts"] == 3 and row["max_abs"] <= 1e-5 and "not_tried" not in row for row in rows)
    assert {*rows[1]["versions"]} == {"transformers", "optimum-onnx"}


@pytest.mark.optimum
def test_readers_of_tags_answer_as_we_do(bert, tmp_path):
    write_tagged(tmp_path / "data", train=24, validation=8)
    options = {"model": str(bert), "data": str(tmp_path / "data"), "task": "token-classification"}
    tuned = dsee_compress.finetune(output=tmp_path / "tuned", epochs=1, max_length=24, **options)
    folder = dsee_compress.export(tuned, output=tmp_path / "export", precision="fp32")
    rows = readers.compare(question(folder, "token", TEXTS), "onnx_fp32")
    assert [(row["reader"], row["compared"], row["max_abs"]) for row in rows] == [
        ("Optimum", "logits", pytest.approx(0, abs=1e-5)),
        ("transformers' pipeline", "tags", 0.0),
    ]


@pytest.mark.optimum
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_readers_write_what_we_write_where_layers_have_the_heads_of_the_config(family, tmp_path):
    texts = [("w5 w9 w3",), ("w1",)]
    whole = Structure(heads=[list(range(decoders.UNITS[family]))] * 3, neurons=[[0], [1, 2], [3]])
    for name, structure in (("whole", whole), ("unequal", None)):
        source = decoder_stages.write_prune(family, tmp_path / f"{name}-prune", structure)
        folder = dsee_compress.export(source, output=tmp_path / name, precision="fp32")
        rows = readers.compare(question(folder, "language", texts), "onnx_fp32")
        assert [row["reader"] for row in rows] == ["Optimum", "transformers' pipeline"]
        if structure is None:
            assert all(row["not_tried"].startswith("Optimum's caches have the config's heads, and") for row in rows)
        else:
            assert [(row["compared"], row["texts"], row["max_abs"]) for row in rows] == [("texts", 2, 0.0)] * 2


@pytest.mark.optimum
def test_a_folder_that_another_library_reads_otherwise_stops_the_stage(bert_exported, tmp_path):
    """Labels that are numbered one way for those who ask by name, and another for those who ask by number."""
    folder = shutil.copytree(bert_exported, tmp_path / "export")
    config = json.loads((folder / "config.json").read_text())
    config["label2id"] = {label: 1 - index for label, index in config["label2id"].items()}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(GateError, match="gate 'readers' failed: logits of transformers' pipeline differ by up to"):
        readers.compare(question(folder, "sequence", TEXTS), "onnx_fp32")


@pytest.mark.optimum
def test_a_folder_that_another_library_does_not_load_stops_the_stage(bert_exported, tmp_path):
    folder = shutil.copytree(bert_exported, tmp_path / "export")
    asked = question(folder, "sequence", TEXTS)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "nothing"}))
    with pytest.raises(GateError, match=r"gate 'readers' failed: Optimum does not load .*export: "):
        readers.compare(asked, "onnx_fp32")


def test_what_is_not_installed_is_named(bert_exported, monkeypatch):
    """And neither is what imports without it."""
    there = {"transformers": "5.0"}
    monkeypatch.setattr(readers.versions, "installed", lambda names: {n: there[n] for n in names if n in there})
    pairs = [("the film", "was lovely")]
    told = {row["reader"]: row for row in readers.compare(question(bert_exported, "sequence", pairs), "onnx_fp32")}
    assert [*told] == ["Optimum", "transformers' pipeline", "sentence-transformers' CrossEncoder"]
    assert {row["not_tried"] for row in told.values()} == {
        "optimum-onnx is not installed",
        "sentence-transformers is not installed",
    }
    assert told["transformers' pipeline"]["versions"] == {"transformers": "5.0"}
