"""An exported folder is found and read by those whose layout it has: each answers as we do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from transformers import AutoTokenizer

import dsee_compress
from dsee_compress import UserError
from dsee_compress.evaluation.generator import OnnxGenerator
from dsee_compress.evaluation.session import Session
from dsee_compress.exporting import files
from dsee_compress.exporting.layouts import LAYOUTS
from dsee_compress.store import lineage
from dsee_compress.store.manifest import Manifest

from ..fixtures import javascript
from ..fixtures.models import write_jsonl

TEXTS = ["the film was lovely", "a dreary story about people", "it felt rather dull and cold"]
PAIRS = [("the film was lovely", "a bright story"), ("it was dull", "people in some town")]
PROMPT = "name : Aromi | food : French | area : riverside\n"
JAVASCRIPT = {"fp32": "model.onnx", "int8": "model_quantized.onnx", "int8_static": "model_int8.onnx"} | {
    "fp16": "model_fp16.onnx",
    "int4": "model_q4.onnx",
}
LABELS = {"stars": [0.5, 4.0], "same": ["yes", "no"], "tags": [["O", "B-FILM", "O"], ["O", "O", "B-FILM"]]}
WORDS = [["the", "film", "was"], ["it", "felt", "superb"]]


def pruned(bert: Path, root: Path, task: str, column: str) -> Path:
    """A model of BERT's that was hardly trained, of pairs of texts or of words."""
    options: dict[str, Any] = {"task": task, "label": column, "epochs": 1, "batch_size": 8, "max_length": 24}
    labels = LABELS[column]
    if task == "token-classification":
        rows = [{"tokens": WORDS[index % 2], column: labels[index % 2]} for index in range(16)]
    else:
        options["text"] = ["question", "answer"]
        rows = [
            {"question": PAIRS[index % 2][0], "answer": PAIRS[index % 2][1], column: labels[index % 2]}
            for index in range(16)
        ]
    (root / "data").mkdir()
    for split in ("train", "validation"):
        write_jsonl(root / "data" / f"{split}.jsonl", rows)
    tuned = dsee_compress.finetune(model=str(bert), data=str(root / "data"), output=root / "finetune", **options)
    return dsee_compress.prune(tuned, output=root / "prune", heads=0.3, neurons=0.3, retune_epochs=0)


@pytest.fixture(scope="module")
def of_words(bert, tmp_path_factory) -> Path:
    return pruned(bert, tmp_path_factory.mktemp("words"), "token-classification", "tags")


@pytest.fixture(scope="module")
def of_numbers(bert, tmp_path_factory) -> Path:
    return pruned(bert, tmp_path_factory.mktemp("numbers"), "regression", "stars")


@pytest.fixture(scope="module")
def for_javascript(bert_pruned, of_words, pruned_decoders, tmp_path_factory) -> dict[str, Path]:
    """A folder in transformers.js' layout for each kind of head, in every precision the first."""
    root = tmp_path_factory.mktemp("javascript")
    wanted = {
        "text-classification": (bert_pruned, [*JAVASCRIPT]),
        "token-classification": (of_words, ["fp32", "int8"]),
        "text-generation": (pruned_decoders("gpt2"), ["fp32", "int8"]),
    }
    return {
        task: dsee_compress.export(source, output=root / task, layout="transformers.js", precision=precision)
        for task, (source, precision) in wanted.items()
    }


def logits(folder: Path, graph: str, texts: list[Any]) -> list[np.ndarray]:
    """Ours, of each text or pair alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with Session(folder / "onnx" / graph) as live:
        rows = [tokenizer(*([text] if isinstance(text, str) else text), return_tensors="np") for text in texts]
        return [live.forward({**row})[0] for row in rows]


def test_a_folder_holds_the_graphs_under_the_names_of_its_readers(for_javascript):
    folder = for_javascript["text-classification"]
    graphs = {f"onnx/{name}" for name in JAVASCRIPT.values()}
    listed = {*Manifest.read(folder).files}
    assert {name for name in listed if name.endswith(".onnx")} == graphs
    assert {path.relative_to(folder).as_posix() for path in lineage.contents(folder)} == listed
    assert json.loads((folder / "config.json").read_text())["transformers.js_config"] == {"dtype": "q8"}


def test_transformers_js_answers_as_we_do(for_javascript):
    """In Node, each precision by its own name of it and by what the folder says it takes, and unequal layers."""
    folder, tagger, writer = for_javascript.values()
    spoken = {"fp32": "fp32", "int8": "q8", "int8_static": "int8", "fp16": "fp16", "int4": "q4", "none": None}
    classes = {"task": "text-classification", "folder": str(folder), "texts": TEXTS, "options": {"top_k": None}}
    tags = {"task": "token-classification", "folder": str(tagger), "texts": TEXTS, "options": {"ignore_labels": []}}
    written = {"task": "text-generation", "folder": str(writer), "dtype": "fp32", "texts": [PROMPT]}
    questions = [
        *(classes | {"dtype": dtype} for dtype in spoken.values()),
        *(tags | {"dtype": dtype} for dtype in ("fp32", "q8")),
        written | {"options": {"max_new_tokens": 12, "return_full_text": False}},
    ]
    found = javascript.answers(questions)

    for precision, answers in zip(spoken, found, strict=False):
        ours = softmax(logits(folder, JAVASCRIPT.get(precision, "model_quantized.onnx"), TEXTS), axis=-1)
        theirs = [{row["label"]: row["score"] for row in answer} for answer in answers]
        for own, scores in zip(ours, theirs, strict=True):
            # What was built for another line of ONNX Runtime rounds int8 sums and fp16 otherwise.
            loose = 1e-5 if precision == "fp32" else 0.02
            assert [scores["bad"], scores["good"]] == pytest.approx([*own], abs=loose), precision

    labels = json.loads((tagger / "config.json").read_text())["id2label"]
    for graph, answers in zip(("model.onnx", "model_quantized.onnx"), found[len(spoken) :], strict=False):
        for own, answer in zip(logits(tagger, graph, TEXTS), answers, strict=True):
            best = [labels[str(index)] for index in own.argmax(-1)]
            assert [row["entity"] for row in answer] == [best[row["index"]] for row in answer]

    tokens = AutoTokenizer.from_pretrained(writer)(PROMPT, return_tensors="pt")
    with OnnxGenerator(writer / "onnx" / "model.onnx") as model:
        assert len({*model.heads}) > 1
        (ids,) = model.generate(**tokens, do_sample=False, max_new_tokens=12)
    ours = AutoTokenizer.from_pretrained(writer).decode(ids[tokens["input_ids"].shape[1] :], skip_special_tokens=True)
    # Whether a space stands before a full stop is for each line of transformers, and for transformers.js, to say.
    theirs = found[-1][0][0]["generated_text"]
    assert theirs.strip().replace(" .", ".") == ours.strip().replace(" .", ".")


def test_a_browsers_runtime_has_every_operator_of_the_fused_graphs(for_javascript):
    folder = for_javascript["text-classification"]
    tokens = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="np")
    given = {
        name: {"type": "int64", "shape": array.shape, "values": array.ravel().tolist()}
        for name, array in tokens.items()
    }
    found = javascript.answers(
        [{"graph": str(folder / "onnx" / name), "inputs": given} for name in JAVASCRIPT.values()]
    )
    for name, answer in zip(JAVASCRIPT.values(), found, strict=True):
        with Session(folder / "onnx" / name) as live:
            expected = live.forward({**tokens})
        np.testing.assert_allclose(np.reshape(answer["values"], answer["shape"]), expected, atol=0.05, err_msg=name)


def test_weights_beside_a_graph_are_found(pruned_decoders, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGEST", 2000)
    folder = dsee_compress.export(
        pruned_decoders("gpt2"), output=tmp_path / "out", layout="transformers.js", precision="fp32"
    )
    said = json.loads((folder / "config.json").read_text())["transformers.js_config"]
    assert said == {"dtype": "fp32", "use_external_data_format": {"model.onnx": 1}}
    ((answer,),) = javascript.answers(
        [{"task": "text-generation", "folder": str(folder), "texts": [PROMPT], "options": {"max_new_tokens": 4}}]
    )
    assert answer[0]["generated_text"].startswith(PROMPT)


@pytest.mark.optimum
def test_a_cross_encoder_scores_pairs_as_we_do(of_numbers, tmp_path):
    """As they come: numbers are not squeezed into 0 to 1."""
    from sentence_transformers import CrossEncoder

    folder = dsee_compress.export(
        of_numbers, output=tmp_path / "out", layout="sentence-transformers", precision="fp32,int8"
    )
    for graph in ("model.onnx", "model_int8.onnx"):
        model = CrossEncoder(str(folder), backend="onnx", device="cpu", model_kwargs={"file_name": f"onnx/{graph}"})
        ours = np.concatenate(logits(folder, graph, PAIRS))
        assert model.predict(PAIRS, batch_size=1) == pytest.approx(ours, abs=1e-5)
    dsee_compress.validate(folder, max_drop=10, max_compression_drop=10)
    told = json.loads((folder / "validation.json").read_text())["readers"]
    assert [row["reader"] for row in told][-1] == "sentence-transformers' CrossEncoder"
    assert all(row["texts"] == 16 and row["max_abs"] <= 1e-5 for row in told)


def test_every_stage_after_it_finds_the_graphs(for_javascript, tmp_path):
    writer, other = for_javascript["text-generation"], for_javascript["token-classification"]
    assert dsee_compress.generate(writer, ["name : Aromi"], max_new_tokens=3, precision="int8")
    folder = for_javascript["text-classification"]
    dsee_compress.benchmark(folder, samples=10, rounds=1, warmup=1, sequence_length=16, threads=1, compare=[str(other)])
    rows = json.loads((folder / "benchmark.json").read_text())["latency"]
    assert f"{other.name}/onnx/model.onnx" in {row["artifact"] for row in rows}
    bundle = dsee_compress.bundle(folder, output=tmp_path / "bundle")
    assert (bundle / "model.onnx").read_bytes() == (folder / "onnx" / "model_quantized.onnx").read_bytes()


def test_what_a_user_put_beside_the_graphs_stays(bert_pruned, tmp_path):
    options = {"layout": "transformers.js", "precision": "fp32"}
    folder = dsee_compress.export(bert_pruned, output=tmp_path / "out", **options)
    fingerprint = lineage.fingerprint(folder)
    (folder / "onnx" / "mine.txt").write_text("kept")
    assert lineage.fingerprint(folder) == fingerprint
    dsee_compress.export(bert_pruned, output=folder, overwrite=True, layout="optimum", precision="fp32")
    assert (folder / "onnx" / "mine.txt").read_text() == "kept"
    assert [path.name for path in (folder / "onnx").iterdir()] == ["mine.txt"] and (folder / "model.onnx").is_file()


def test_a_layout_whose_readers_run_no_such_model_is_refused(bert_pruned, of_words, pruned_decoders, tmp_path):
    for source, named in ((bert_pruned, "'text'"), (of_words, "'tokens'"), (pruned_decoders("gpt2"), "'source'")):
        task = Manifest.read(source).task.name
        told = rf"layout sentence-transformers is not there for {task} of {named}; choose optimum or transformers\.js"
        with pytest.raises(UserError, match=told):
            dsee_compress.export(source, output=tmp_path / "out", layout="sentence-transformers")
    assert not (tmp_path / "out").exists()


def test_every_layout_knows_every_precision():
    for layout in LAYOUTS.values():
        assert len({*layout.graphs.values()}) == len(JAVASCRIPT) == len(layout.graphs)
