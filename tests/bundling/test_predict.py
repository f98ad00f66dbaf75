"""predict.py on a device: the answers of validation, for any input."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dsee_compress
from dsee_compress import tasks
from dsee_compress.evaluation import inputs, session
from dsee_compress.stages import common
from dsee_compress.store.manifest import Manifest

from ..fixtures.models import _BAD, _GOOD, _PLAIN, write_jsonl

BATCH = 8


def sentences(count: int = 500) -> list[str]:
    """Of the task's words and of others, short and long, some beyond the length that is cut."""
    draw = random.Random(3)
    words = [*_PLAIN, *_GOOD, *_BAD, "unheard", "Ünknown", "🙂", "中文", "it's", "..."]
    return [" ".join(draw.choices(words, k=draw.choice([1, 3, 8, 40, 200]))) for _ in range(count)]


def validated(folder: Path, precision: str, data: Path) -> np.ndarray:
    """Logits of an export folder's artifact, computed as `validate` does."""
    tokenizer = common.tokenizer_of(folder)
    task = Manifest.read(folder).task.model_copy(update={"data": str(data)})
    rows = tasks.encode(task, "validation", tokenizer)
    file = {"fp32": "model.onnx", "int8": "model_int8.onnx"}[precision]
    with session.Session(folder / file) as live:
        batches = inputs.padded_batches(rows, tasks.of(task).collator(tokenizer), BATCH)
        return np.concatenate([live.forward(batch) for batch in batches])


def best(logits: np.ndarray, labels: list[str]) -> tuple[list[str], np.ndarray]:
    powers = np.exp(logits.astype(float) - logits.max(-1, keepdims=True))
    probabilities = powers / powers.sum(-1, keepdims=True)
    return [labels[index] for index in probabilities.argmax(-1)], probabilities.max(-1)


def through_optimum(folder: Path, file: str, texts: list[str]) -> list[str]:
    import torch
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer

    model = ORTModelForSequenceClassification.from_pretrained(folder, file_name=file)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    labels = []
    for start in range(0, len(texts), BATCH):
        batch = tokenizer(
            texts[start : start + BATCH], truncation=True, max_length=128, padding=True, return_tensors="pt"
        )
        with torch.inference_mode():
            labels += [model.config.id2label[int(index)] for index in model(**batch).logits.argmax(-1)]
    return labels


@pytest.fixture(scope="session")
def bundled(exported: Path) -> Path:
    return dsee_compress.bundle(exported, output=exported.parent / "bundle fp32", precision="fp32")


def test_the_device_has_neither_torch_nor_transformers_nor_this_package(device):
    for module in ("torch", "transformers", "dsee_compress", "optimum", "onnx", "scipy", "sklearn", "psutil"):
        done = device.run("-c", f"import {module}")
        assert b"ModuleNotFoundError" in done.stderr


def require_the_labels_of_optimum_and_of_validation(
    device, export: Path, bundle: Path, precision: str, folder: Path
) -> None:
    texts = sentences()
    write_jsonl(folder / "validation.jsonl", [{"text": text, "label": "good"} for text in texts])
    (folder / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    plain = device.answers(bundle, folder / "texts.txt", "--batch", BATCH)
    rows = device.answers(bundle, folder / "validation.jsonl")
    assert plain == rows and len(rows) == len(texts)
    labels, scores = best(validated(export, precision, folder), ["bad", "good"])
    found = [answer["label"] for answer in plain]
    assert set(found) == {"bad", "good"}
    assert found == labels
    assert found == through_optimum(export, {"fp32": "model.onnx", "int8": "model_int8.onnx"}[precision], texts)
    assert [answer["score"] for answer in plain] == pytest.approx(scores, abs=1e-6)


@pytest.mark.optimum
def test_labels_are_those_of_optimum_and_of_validation(device, exported, bundled, tmp_path):
    require_the_labels_of_optimum_and_of_validation(device, exported, bundled, "fp32", tmp_path)


@pytest.mark.optimum
def test_int8_labels_are_those_of_optimum_and_of_validation(device, small_export, small, tmp_path):
    require_the_labels_of_optimum_and_of_validation(device, small_export, small, "int8", tmp_path)


def answers_of_both(device, oldest_device, bundle: Path) -> tuple[list[dict], list[dict]]:
    """In batches, where texts are padded."""
    texts = "\n".join(sentences(200)).encode()
    newest, oldest = (each.answers(bundle, "--batch", BATCH, given=texts) for each in (device, oldest_device))
    return newest, oldest


def test_the_oldest_versions_give_the_same_answers(device, oldest_device, bundled):
    newest, oldest = answers_of_both(device, oldest_device, bundled)
    assert [row["label"] for row in oldest] == [row["label"] for row in newest]
    assert [row["score"] for row in oldest] == pytest.approx([row["score"] for row in newest], abs=1e-4)


def test_the_oldest_versions_round_int8_nearly_as_the_newest(device, oldest_device, small):
    newest, oldest = answers_of_both(device, oldest_device, small)
    assert np.mean([left["label"] == right["label"] for left, right in zip(newest, oldest, strict=True)]) > 0.95


def test_a_runtime_that_pads_wrongly_is_refused(device, small, tmp_path):
    """1.20 was measured to run the model and to change one label in twenty."""
    bound = next(line for line in (small / "requirements.txt").read_text().splitlines() if "onnxruntime" in line)
    assert bound == "onnxruntime>=1.22"
    assert json.loads((small / "bundle.json").read_text())["onnxruntime"] == "1.22"
    (tmp_path / "onnxruntime.py").write_text("__version__ = '1.20.1'")
    code = f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['predict.py']; "
    code += f"runpy.run_path({str(small / 'predict.py')!r}, run_name='__main__')"
    done = subprocess.run([device.python, "-Ic", code], capture_output=True, check=False)
    refused(done, "onnxruntime 1.20.1 is too old for this model, which needs 1.22; pip install -r requirements.txt")


PAIR = {"epochs": 1, "batch_size": 16, "learning_rate": 1e-2, "text": "question,passage", "max_length": 16}


def pairs(task: str, count: int) -> list[dict]:
    """Pairs of which the first, the second, both or neither have to be cut."""
    draw = random.Random(5)
    texts = iter(sentences(2 * count))
    return [
        {
            "passage": next(texts),
            "question": next(texts),
            "label": draw.random() if task == "regression" else draw.choice(["no", "yes"]),
        }
        for _ in range(count)
    ]


@pytest.fixture(scope="session", params=["regression", "classification"])
def pair_export(request, pretrained_folders, tmp_path_factory) -> Path:
    """Of DeBERTa for regression, whose tokens of a pair have no types, and of BERT for classification, whose have."""
    root = tmp_path_factory.mktemp(request.param)
    model = pretrained_folders["deberta-v3" if request.param == "regression" else "bert"]
    for split, count in (("train", 64), ("validation", 16)):
        write_jsonl(root / f"{split}.jsonl", pairs(request.param, count))
    options = {"model": str(model), "data": str(root), "task": request.param, **PAIR}
    return dsee_compress.export(
        dsee_compress.finetune(output=root / "tuned", **options), output=root / "export", precision=["fp32", "int8"]
    )


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_pairs_and_numbers_are_those_of_validation(device, pair_export, precision, tmp_path):
    task = Manifest.read(pair_export).task
    bundle = dsee_compress.bundle(pair_export, output=tmp_path / "bundle", precision=precision)
    rows = pairs(task.name, 500)
    write_jsonl(tmp_path / "validation.jsonl", rows)
    plain = "\n".join(f"{row['question']}\t{row['passage']}" for row in rows)
    found = device.answers(bundle, tmp_path / "validation.jsonl", "--batch", BATCH)
    assert device.answers(bundle, "--batch", BATCH, given=plain.encode()) == found
    logits = validated(pair_export, precision, tmp_path)
    if task.name == "regression":
        assert all(set(answer) == {"score"} for answer in found)
        assert [answer["score"] for answer in found] == pytest.approx(logits[:, 0], abs=1e-6)
    else:
        labels, scores = best(logits, task.labels)
        assert [answer["label"] for answer in found] == labels
        assert [answer["score"] for answer in found] == pytest.approx(scores, abs=1e-6)


def test_a_pair_needs_one_tab(device, pair_export, tmp_path):
    bundle = dsee_compress.bundle(pair_export, output=tmp_path / "bundle")
    one, two, none, half, empty = device.answers(bundle, given=b"a\tb\na\tb\tc\na b\na\t\n\t\n")
    assert "score" in one and "score" in half
    for answer, wrong in ((two, "there are 2 tabs"), (none, "there are 0 tabs"), (empty, "it is empty")):
        assert answer["error"].endswith(wrong)


AWKWARD = {
    "an empty line": b"",
    "10,000 words": b"lovely " * 10_000,
    "emoji": "🙂👩‍👩‍👧".encode(),
    "NUL": b"a \0 lovely \0\0 film",
    "not UTF-8": b"lovely \xff\xfe film",
    "cut within a letter": "film ü".encode()[:-1],
    "other scripts": "中文 日本語 العربية हिन्दी ไทย \u2028 \x85 \x0b end".encode(),
    "spaces": b"   \t ",
    "a plain one": b"the film was lovely",
}


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last", [b"", b"\n"])
def test_each_awkward_line_gives_one_line(device, small, tmp_path, end, last):
    (tmp_path / "texts.txt").write_bytes(end.join(AWKWARD.values()) + last)
    found = dict(zip(AWKWARD, device.answers(small, tmp_path / "texts.txt", "--batch", 4), strict=True))
    assert {name for name, answer in found.items() if "error" in answer} == {
        "an empty line",
        "not UTF-8",
        "cut within a letter",
        "spaces",
    }
    assert found["an empty line"] == {"error": "line 1: it is empty"}
    assert found["not UTF-8"] == {"error": "line 5: it is not UTF-8: invalid start byte at byte 8"}
    assert all(set(answer) == {"label", "score"} for answer in found.values() if "error" not in answer)


def test_each_awkward_row_gives_one_line(device, small, tmp_path):
    rows = {
        '{"text": "the film was lovely"}': None,
        '{"text": ""}': None,
        '{"text": "a \\u0000 \\ud83d\\ude42", "label": 7}': None,
        "": "it is empty",
        '{"text": "cut off': "it is not JSON: Unterminated string",
        "[1]": "it is not a JSON object",
        '"text"': "it is not a JSON object",
        '{"texts": "a"}': "it has no column 'text'",
        '{"text": 3}': "column 'text' holds no text",
        '{"text": null}': "column 'text' holds no text",
        '{"text": "\\ud800"}': "column 'text' holds half of a surrogate pair",
        "[" * 100_000: "it is not JSON",
        '{"text": ' + "9" * 5000 + "}": "it is not JSON",
        '{"text": "the end"}': None,
    }
    (tmp_path / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + "\n".join(rows).encode())
    found = device.answers(small, tmp_path / "rows.jsonl")
    for number, (answer, wrong) in enumerate(zip(found, rows.values(), strict=True), start=1):
        assert answer.get("error", "").startswith("" if wrong is None else f"line {number}: {wrong}")
        assert ("label" in answer) == (wrong is None)


@settings(max_examples=8)
@given(
    st.lists(st.one_of(st.binary(max_size=40), st.text(max_size=40).map(lambda text: text.encode()))),
    st.sampled_from([b"\n", b"\r\n"]),
    st.booleans(),
)
def test_any_bytes_on_standard_input(device, small, lines, end, last):
    content = end.join(lines) + (end if last else b"")
    expected = content.split(b"\n")[: None if content[-1:] not in (b"\n", b"") else -1]
    found = device.answers(small, given=content)
    assert len(found) == len(expected)
    for answer, line in zip(found, expected, strict=True):
        try:
            fine = bool(line.decode().strip()) and line != b"\xef\xbb\xbf"
        except UnicodeDecodeError:
            fine = False
        assert set(answer) == ({"label", "score"} if fine else {"error"})


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "label", ""]), inner),
    max_leaves=5,
)


@settings(max_examples=8)
@given(st.lists(st.one_of(st.binary(max_size=40), JSON.map(lambda value: json.dumps(value).encode())), min_size=1))
def test_any_rows(device, small, tmp_path_factory, lines):
    lines = [line.replace(b"\n", b" ") for line in lines]
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    found = device.answers(small, path)
    assert len(found) == len(lines)
    assert all(set(answer) in ({"label", "score"}, {"error"}) for answer in found)


def test_an_empty_file_gives_nothing(device, small, tmp_path):
    for name in ("none.txt", "none.jsonl"):
        (tmp_path / name).touch()
        assert device.answers(small, tmp_path / name) == []
    assert device.answers(small, given=b"") == []


def test_output_is_the_same_in_a_file_and_says_how_many(device, small, tmp_path):
    (tmp_path / "texts.txt").write_text("the film was lovely\n\nit felt cold\n")
    printed = device.run(small / "predict.py", tmp_path / "texts.txt")
    done = device.run(small / "predict.py", "texts.txt", "--output", "out.jsonl", "--threads", 1, folder=tmp_path)
    assert done.returncode == 0 and done.stdout == b""
    assert done.stderr == b"2 answers, 1 errors; wrote out.jsonl\n"
    assert (tmp_path / "out.jsonl").read_bytes() == printed.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "texts.txt"]


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["nowhere.txt"], "there is no file nowhere.txt"),
        (["texts.csv"], "texts.csv is neither .txt, with a text a line, nor .jsonl"),
        (["folder.txt"], "there is no file folder.txt"),
        (["texts.txt", "--output", "texts.txt"], "the output texts.txt is the input"),
        (["texts.txt", "--output", "/dev/null"], "the output /dev/null is no file that could be replaced"),
        (["texts.txt", "--output", "no/out.jsonl"], "there is no folder no for the output"),
        (["texts.txt", "--batch", "0"], "argument --batch: '0' is not a whole number from 1 to 1000000"),
        (["texts.txt", "--threads", "many"], "argument --threads: 'many' is not a whole number from 1"),
        (["texts.txt", "--thread", "1"], "unrecognized arguments: --thread 1"),
        (["texts.txt", "--fast"], "unrecognized arguments: --fast; see python predict.py --help"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(device, small, tmp_path, arguments, sentence):
    (tmp_path / "texts.txt").write_text("the film\n")
    (tmp_path / "folder.txt").mkdir()
    before = sorted(tmp_path.iterdir())
    refused(device.run(small / "predict.py", *arguments, folder=tmp_path), sentence)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("file, content", [("model.onnx", b"no"), ("bundle.json", b"{"), ("tokenizer.json", b"{}")])
def test_a_damaged_bundle_is_one_sentence(device, damaged, file, content):
    (damaged / file).write_bytes(content)
    refused(device.run(damaged / "predict.py", given=b"a film"), "is damaged")
    (damaged / file).unlink()
    refused(device.run(damaged / "predict.py", given=b"a film"), "is damaged")


def test_a_line_is_answered_before_the_next_one_comes(device, small):
    with subprocess.Popen(
        [device.python, small / "predict.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in ("the film was lovely\n", "\n", "it felt cold\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert json.loads(process.stdout.readline()).keys() == ({"label", "score"} if line.strip() else {"error"})


def test_a_reader_that_has_enough_is_no_error(device, small, tmp_path):
    (tmp_path / "texts.txt").write_text("the film was lovely\n" * 5000)
    with subprocess.Popen(
        [device.python, small / "predict.py", tmp_path / "texts.txt"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert (process.wait(), process.stderr.read()) == (0, b"")


def test_without_a_package_it_says_what_to_install(small):
    """With a Python that has none of the three."""
    done = subprocess.run([sys.executable, "-IS", small / "predict.py"], capture_output=True, check=False)
    refused(done, "is not installed; pip install -r requirements.txt")


def refused(done: subprocess.CompletedProcess, sentence: str) -> None:
    printed = done.stderr.decode()
    assert done.returncode == 2, printed
    assert printed.startswith("error: ") and len(printed.splitlines()) == 1
    assert sentence in printed
