"""A trimmed vocabulary on the whole way: exported, validated against the models before, bundled, measured, reported."""

import json
from pathlib import Path

import onnx
import pytest

import dsee_compress
from dsee_compress.bundling import predict
from dsee_compress.errors import GateError, UserError
from dsee_compress.exporting import metadata, vocabulary
from dsee_compress.models import config_of
from dsee_compress.stages import common
from dsee_compress.store.manifest import Manifest

from ..fixtures.models import VOCABULARY, write_jsonl

MISSING = "people"
LENIENT = {"max_drop": 0.9, "max_compression_drop": 0.9}


@pytest.fixture(scope="module")
def fewer(data, tmp_path_factory) -> Path:
    """The task's training split without a word that its validation split has."""
    folder = tmp_path_factory.mktemp("fewer")
    rows = [json.loads(line) for line in (data / "train.jsonl").read_text().splitlines()]
    write_jsonl(folder / "train.jsonl", [row for row in rows if MISSING not in row["text"]])
    return folder


@pytest.fixture(scope="module")
def run(pretrained_folders, data, fewer, tmp_path_factory) -> Path:
    """RoBERTa, whose tokenizer can spell what it does not keep."""
    stages = {
        "finetune": {"model": str(pretrained_folders["roberta"]), "data": str(data), "epochs": 3, "rank": 2},
        "prune": {"heads": 0.5, "retune_epochs": 0},
        "export": {"trim_vocabulary": str(fewer)},
        "validate": LENIENT,
        "benchmark": {"samples": 10, "rounds": 1, "warmup": 1, "sequence_length": 16, "threads": 1},
    }
    return dsee_compress.run(stages, output=tmp_path_factory.mktemp("trimmed"))


def texts_with(data: Path, word: str) -> list[str]:
    rows = [json.loads(line)["text"] for line in (data / "validation.jsonl").read_text().splitlines()]
    return [text for text in rows if word in text]


def test_every_family_is_exported_with_fewer_tokens_and_the_same_logits(pruned, family, data, fewer, tmp_path):
    folder = dsee_compress.export(pruned, output=tmp_path / "export", trim_vocabulary=str(fewer))
    trimmed = Manifest.read(folder).metrics.vocabulary
    assert trimmed.before == VOCABULARY > trimmed.after == config_of(folder).vocab_size
    assert len(common.tokenizer_of(folder)) == trimmed.after
    dsee_compress.validate(folder, **LENIENT)
    result = json.loads((folder / "validation.json").read_text())
    assert result["parity"]["export_max_abs"] < 1e-3
    spelled = len(texts_with(data, MISSING)) if family == "roberta" else 0
    assert result["examples"] - result["examples_alike"] == spelled


@pytest.mark.optimum
def test_optimum_runs_the_export_and_reads_other_words_too(run, data):
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer, pipeline

    folder = run / "export"
    model, tokenizer = ORTModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = [json.loads(line)["text"] for line in (data / "validation.jsonl").read_text().splitlines()]
    answers = [answer["label"] for answer in pipeline("text-classification", model=model, tokenizer=tokenizer)(texts)]
    predicted = json.loads((folder / "validation.json").read_text())["predictions"]["onnx_fp32"]
    assert answers == [model.config.id2label[label] for label in predicted]
    for text in (MISSING, "Ünknown 🙂 中文"):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]).strip() == text


def test_all_precisions_are_held_to_the_model_before(run, data):
    result = json.loads((run / "export" / "validation.json").read_text())
    compared = {(gate["candidate"], gate["reference"]) for gate in result["gates"] if gate["gate"] == "precision"}
    assert compared == {("onnx_fp32", "pruned"), ("onnx_int8", "pruned")}
    own = json.loads((run / "prune" / "dsee.json").read_text())["metrics"]["validation"]["accuracy"]
    assert result["accuracy"]["pruned"]["value"] == pytest.approx(own)
    assert result["examples"] - result["examples_alike"] == len(texts_with(data, MISSING)) > 0


def test_the_dense_baseline_keeps_its_vocabulary_and_the_report_says_what_was_saved(run):
    assert Manifest.read(run / "dense").metrics.vocabulary is None
    assert config_of(run / "dense").vocab_size == VOCABULARY
    trimmed = Manifest.read(run / "export").metrics.vocabulary
    content = json.loads((run / "report.json").read_text())
    width = config_of(run / "export").hidden_size
    gone = (trimmed.before - trimmed.after) * width
    assert content["vocabulary"]["saved_mb"] == pytest.approx({"pruned_fp32": 4e-6 * gone, "pruned_int8": 1e-6 * gone})
    pruned = Manifest.read(run / "prune").metrics.parameters
    assert content["cost"]["parameters"]["final"] == pruned - gone
    kept = f"{trimmed.after} of {trimmed.before} tokens"
    assert kept in (run / "report.md").read_text() and kept in (run / "report.html").read_text()
    for name in ("model.onnx", "model_int8.onnx"):
        assert metadata.read(run / "export" / name)["vocabulary"] == kept
    sizes = [tuple(tensor.dims) for tensor in onnx.load(run / "export" / "model.onnx").graph.initializer]
    assert (trimmed.after, width) in sizes and all(VOCABULARY not in size for size in sizes)


def test_a_bundle_answers_as_validation_does(run, data, tmp_path):
    folder = dsee_compress.bundle(run / "export", output=tmp_path / "bundle", precision="fp32")
    described = json.loads((folder / "bundle.json").read_text())
    assert described["vocabulary_size"] == Manifest.read(run / "export").metrics.vocabulary.after
    model = predict.load(folder)
    texts = [json.loads(line)["text"] for line in (data / "validation.jsonl").read_text().splitlines()]
    predicted = json.loads((run / "export" / "validation.json").read_text())["predictions"]["onnx_fp32"]
    labels = described["labels"]
    assert [answer["label"] for answer in model.answer([model.encode((text,)) for text in texts])] == [
        labels[i] for i in predicted
    ]


def test_the_texts_of_a_file_stay_too(run, fewer, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text(f"some {MISSING}\n\n")
    options = {"precision": "fp32", "trim_vocabulary": str(fewer), "keep_texts": str(texts)}
    folder = dsee_compress.export(run / "prune", output=tmp_path / "export", **options)
    before, after = (common.tokenizer_of(path).tokenize(f"the {MISSING}") for path in (run / "prune", folder))
    assert after == before == ["Ġthe", f"Ġ{MISSING}"]
    dsee_compress.export(run / "prune", output=folder, **options)
    texts.write_text("other")
    with pytest.raises(UserError, match=r"keep_texts was '\w+' and is now '\w+'\); use --overwrite"):
        dsee_compress.export(run / "prune", output=folder, **options)


def test_what_is_not_there_is_said_in_one_sentence(run, data, tmp_path):
    for options, sentence in (
        ({"trim_vocabulary": "./nowhere"}, "there is no data folder ./nowhere"),
        ({"trim_vocabulary": str(tmp_path)}, "has no train split; it needs train.jsonl or"),
        ({"trim_vocabulary": str(data), "keep_texts": "none.txt"}, "keep_texts: there is no file none.txt"),
        ({"keep_texts": "none.txt"}, "keep_texts adds to what trim_vocabulary keeps, which is not given"),
        ({"trim_vocabulary": str(data), "keep_texts": str(run / "export" / "model.onnx")}, "is not text in UTF-8"),
    ):
        with pytest.raises(UserError, match=sentence):
            dsee_compress.export(run / "prune", output=tmp_path / "export", **options)
    assert not (tmp_path / "export").exists()


def test_rows_of_other_tokens_are_caught(run, data, tmp_path, monkeypatch):
    cut = vocabulary._cut_embedding
    monkeypatch.setattr(vocabulary, "_cut_embedding", lambda model, ids: cut(model, dict(reversed(ids.items()))))
    with pytest.raises(GateError, match="gate 'vocabulary' failed: logits of model before and after its vocabulary"):
        dsee_compress.export(run / "prune", output=tmp_path / "export", trim_vocabulary=str(data))
    assert not (tmp_path / "export").exists()


def test_texts_that_are_read_otherwise_are_caught(run, data, tmp_path, monkeypatch):
    kind = vocabulary._KINDS["BPE"]
    without_merges = vocabulary._Kind(kind.needed, lambda model, new_ids: kind.cut(model, new_ids) | {"merges": []})
    monkeypatch.setitem(vocabulary._KINDS, "BPE", without_merges)
    with pytest.raises(GateError, match="gate 'vocabulary' failed: 256 of 256 training texts are read as other tokens"):
        dsee_compress.export(run / "prune", output=tmp_path / "export", trim_vocabulary=str(data))
