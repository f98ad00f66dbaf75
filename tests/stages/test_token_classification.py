"""The whole way of entities: what each stage says of them, and the same entities from every reader of the folder."""

import json
import random
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from seqeval import metrics as seqeval
from seqeval.scheme import IOB2
from transformers import AutoTokenizer, pipeline

import dsee_compress
from dsee_compress import tasks
from dsee_compress.runtime import answers, tagging
from dsee_compress.store.manifest import Manifest

from ..fixtures.models import write_jsonl

NAMES, TOWNS, PLAIN = (
    ["lovely", "superb", "clever"],
    ["town", "people"],
    ["the", "film", "was", "a", "story", "dull"],
)


def tagged(draw: random.Random) -> dict:
    """Words of which some name a place to eat, of one word or two, or a part of the town."""
    tokens, tags = [], []
    for _ in range(draw.randint(2, 6)):
        if draw.random() < 0.3:
            size = 1 + (draw.random() < 0.15)
            tokens += draw.choices(NAMES, k=size)
            tags += ["B-FOOD", "I-FOOD"][:size]
        elif draw.random() < 0.3:
            tokens.append(draw.choice(TOWNS))
            tags.append("B-AREA")
        tokens.append(draw.choice(PLAIN))
        tags.append("O")
    return {"tokens": tokens, "tags": tags}


def write_tagged(folder: Path, **splits: int) -> None:
    """So many sentences a split."""
    folder.mkdir()
    draw = random.Random(7)
    for split, count in splits.items():
        write_jsonl(folder / f"{split}.jsonl", [tagged(draw) for _ in range(count)])


@pytest.fixture(scope="module")
def run(bert, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("entities")
    write_tagged(root / "data", train=160, validation=48)
    training = {"batch_size": 16, "learning_rate": 1e-2}
    recipe = {
        "finetune": {
            **{"model": str(bert), "data": str(root / "data"), "task": "token-classification", "max_length": 24},
            **{"epochs": 15, "rank": 3, "sparse": 5, "alpha": 6.0, **training},
        },
        "prune": {
            "retune_epochs": 2,
            "heads": 0.34,
            "neurons": 0.3,
            "allocation": "global",
            "distill": True,
            **training,
        },
        "export": {"precision": ["fp32", "int8"]},
        "validate": {"max_drop": 0.9, "max_compression_drop": 0.9},
        "benchmark": {"samples": 10, "rounds": 1, "warmup": 1, "sequence_length": 16, "threads": 1},
    }
    return dsee_compress.run(recipe, output=root / "run")


@pytest.fixture(scope="module")
def measured(run) -> dict:
    return json.loads((run / "export" / "validation.json").read_text())


def rows(run: Path) -> list[dict]:
    data = Path(Manifest.read(run / "finetune").task.data)
    return [json.loads(line) for line in (data / "validation.jsonl").read_text().splitlines()]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_validation_is_what_seqeval_says_of_the_predictions(run, measured):
    truth = [row["tags"] for row in rows(run)]
    for name, entry in measured["accuracy"].items():
        found = [["O"] * len(tags) for tags in truth]
        for tags, entities in zip(found, measured["predictions"][name], strict=True):
            for start, end, kind in entities:
                tags[start:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - start - 1)]
        theirs = {
            "entity_f1": seqeval.f1_score(truth, found, mode="strict", scheme=IOB2),
            "entity_precision": seqeval.precision_score(truth, found, mode="strict", scheme=IOB2),
            "entity_recall": seqeval.recall_score(truth, found, mode="strict", scheme=IOB2),
        }
        of_types = seqeval.classification_report(truth, found, mode="strict", scheme=IOB2, output_dict=True)
        theirs |= {f"entity_f1:{kind}": of_types[kind]["f1-score"] for kind in ("AREA", "FOOD")}
        assert {"entity_f1": entry["value"], **measured["other_metrics"][name]} == pytest.approx(theirs)
    assert measured["accuracy"]["dense_finetuned"]["value"] > 0.8
    assert measured["examples"] == 48 and measured["parity"]["label_agreement"] == 1.0


def test_nothing_of_the_last_layer_is_left_out_and_flops_say_so(run):
    exported = Manifest.read(run / "export")
    assert exported.metrics.narrowed.model_dump() == {"nodes": 0, "attention": 0}
    flops = json.loads((run / "report.json").read_text())["cost"]["flops"]
    assert flops["exported"] == flops["final"] and flops["first_token"] is False
    output = onnx.load(run / "export" / "model.onnx").graph.output[0]
    assert output.name == "logits"
    assert [dim.dim_param != "" for dim in output.type.tensor_type.shape.dim] == [True, True, False]


@pytest.mark.optimum
def test_optimum_and_a_pipeline_run_the_folder_unchanged(run):
    from optimum.onnxruntime import ORTModelForTokenClassification

    folder = run / "export"
    model = ORTModelForTokenClassification.from_pretrained(folder, file_name="model.onnx")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ours, theirs = dsee_compress.load(run / "prune"), []
    given = tokenizer(["the lovely was", "a dull story in town"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        wanted, found = ours(**given).logits, model(**given).logits
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    tagger = pipeline("token-classification", model=model, tokenizer=tokenizer, aggregation_strategy="simple")
    theirs = tagger("the film was lovely clever a story town dull")
    assert {entry["entity_group"] for entry in theirs} == {"FOOD", "AREA"}


@pytest.mark.optimum
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_bundle_gives_the_entities_of_optimums_class(run, tmp_path, precision):
    """Read off Optimum's logits word by word, short lines and one of many windows."""
    from optimum.onnxruntime import ORTModelForTokenClassification

    folder = dsee_compress.bundle(run / "export", output=tmp_path / "bundle", precision=precision)
    lines = [" ".join(row["tokens"]) for row in rows(run)][:12]
    lines.append(" ".join(lines))
    bundled = answers.load(folder)
    ours = [entry["entities"] for line in lines for entry in bundled.answer([bundled.encode((line,))])]
    file = {"fp32": "model.onnx", "int8": "model_int8.onnx"}[precision]
    model = ORTModelForTokenClassification.from_pretrained(run / "export", file_name=file)
    tokenizer = AutoTokenizer.from_pretrained(run / "export")
    for line, found in zip(lines, ours, strict=True):
        given = tokenizer(
            line,
            truncation=True,
            max_length=24,
            stride=6,
            return_overflowing_tokens=True,
            return_tensors="pt",
            padding=True,
        )
        given.pop("overflow_to_sample_mapping")
        offsets = [encoding.offsets for encoding in given.encodings]
        with torch.inference_mode():
            logits = model(**given).logits.numpy()
        words = tagging.words(line)
        tags = [model.config.id2label[int(logits[place].argmax())] for place in tagging.first_pieces(words, offsets)]
        expected = [
            {"type": kind, "start": words[start][0], "end": words[end - 1][1]}
            for start, end, kind in tagging.entities(tags)
        ]
        assert [{name: entity[name] for name in ("type", "start", "end")} for entity in found] == expected
        assert all(entity["text"] == line[entity["start"] : entity["end"]] for entity in found)
        assert all(0.2 < entity["score"] <= 1 for entity in found)
    apart = sum(map(len, ours[:-1]))
    assert apart > 6 and len(ours[-1]) > 0.7 * apart, "the windows of the long line are read to its end"


def test_the_report_shows_each_type_beside_the_whole(run):
    for name in ("report.md", "report.html"):
        text = (run / name).read_text()
        for words in ("ntity F1", "entity precision", "entity F1 of AREA", "entity F1 of FOOD"):
            assert words in text, words


def test_a_smaller_vocabulary_tells_the_same_entities(run, tmp_path):
    data = Manifest.read(run / "finetune").task.data
    export = dsee_compress.export(run / "prune", output=tmp_path / "export", precision="fp32", trim_vocabulary=data)
    dsee_compress.validate(export, max_drop=0.9, max_compression_drop=0.9)
    measured = json.loads((export / "validation.json").read_text())
    assert measured["predictions"]["onnx_fp32"] == measured["predictions"]["pruned"]
    assert measured["examples_alike"] <= 48 and measured["parity"]["export_max_abs"] < 1e-3


def test_words_that_the_tokenizer_drops_are_of_no_entity(run):
    spec = Manifest.read(run / "finetune").task
    task, tokenizer = tasks.of(spec), AutoTokenizer.from_pretrained(run / "finetune")
    write_jsonl(
        Path(spec.data) / "odd.jsonl", [{"tokens": ["lovely", "\u200d", "dull"], "tags": ["B-FOOD", "I-FOOD", "O"]}]
    )
    encoded = tasks.encode(spec, "odd", tokenizer)
    assert encoded["pieces"] == [[1, -1, len(encoded["input_ids"][0]) - 2]]
    logits = np.eye(len(spec.labels))[np.where(np.array(encoded["labels"][0]) < 0, 0, encoded["labels"][0])]
    assert task.predictions(spec, logits, encoded, None) == [{(0, 1, "FOOD")}]
