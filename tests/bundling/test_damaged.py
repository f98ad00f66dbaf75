"""Bundles damaged on their way to a device, and input that is none: one sentence, or an error for its line."""

import io
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from dsee_compress.bundling import bench, predict
from dsee_compress.runtime import answers

WRONG = [None, True, -1, 0, 1, 1.5, "", "x", "1.22", [], [1], ["x"], {}, {"id": -1}, 10**30, "\u202e\x1b[31m"]


def start(program: Path, *arguments: object, given: bytes = b"the film\n") -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a program of a bundle, run in this process; what it raises comes through."""
    old = sys.argv, sys.stdin, sys.stdout, sys.stderr
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    out.fileno = lambda: nowhere  # it is let go where answers cannot be printed
    sys.argv, sys.stdin = [str(program), *map(str, arguments)], io.TextIOWrapper(io.BytesIO(given), "utf-8")
    sys.stdout, sys.stderr = out, err
    try:
        runpy.run_path(str(program), run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv, sys.stdin, sys.stdout, sys.stderr = old
        os.close(nowhere)
    out.flush()
    return code, out.buffer.getvalue().decode(), err.getvalue()


@pytest.fixture
def predicted(damaged):
    """Runs predict.py of the damaged bundle."""

    def run(*arguments: object, given: bytes = b"the film\n") -> tuple[int, str, str]:
        return start(damaged / "predict.py", *arguments, given=given)

    return run


@pytest.fixture
def benched(damaged, monkeypatch, capsys, tmp_path):
    """Runs bench.py on the damaged bundle, without the fresh processes of its cold start."""
    monkeypatch.setattr(bench, "FOLDER", damaged)
    monkeypatch.setattr(bench, "cold_start_ms", lambda *_: 1.0)
    monkeypatch.setattr(sys, "argv", ["bench.py", "--samples", "10", "--output", str(tmp_path / "latency.json")])

    def run() -> tuple[int, str, str]:
        code = bench.main()
        return code, *capsys.readouterr()

    return run


def refused(outcome: tuple[int, str, str], sentence: str = "") -> None:
    code, out, err = outcome
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and len(err.splitlines()) == 1 and sentence in err
    assert err.rstrip("\n").isprintable()


def described(folder: Path) -> dict:
    return json.loads((folder / "bundle.json").read_text())


def describe(folder: Path, content: object) -> None:
    (folder / "bundle.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "content", ["", "{", "{}", "[]", "null", "3", '"x"', '{"task": "classification"}', "[" * 100_000, "\udcff"]
)
def test_what_is_no_description_of_a_bundle_is_one_sentence(damaged, predicted, benched, content):
    (damaged / "bundle.json").write_bytes(content.encode(errors="surrogateescape"))
    refused(predicted(), "is damaged (")
    refused(benched())


def test_a_newer_bundle_asks_for_its_own_programs(damaged, predicted, benched):
    describe(damaged, described(damaged) | {"schema": 2})
    refused(predicted(), "has schema 2, and this program reads 1; use that of the same bundle")
    refused(benched(), "has schema 2, and this program reads 1; use that of the same bundle")


def test_each_field_is_there_and_is_what_it_can_be(damaged, small, predicted, benched):
    """A value that a field cannot have is refused by those who read it; one that it can have breaks nothing."""
    whole = described(small)
    unread = {"artifact", "task", "precision", "export", "made_from", "vocabulary_size", "longest_input"}
    for name in whole:
        describe(damaged, {other: value for other, value in whole.items() if other != name})
        for program, reads in ((predicted, name not in unread), (benched, name == "schema" or name in bench.FIELDS)):
            if reads:
                refused(program(), name)
            else:
                assert program()[0] == 0, name
        for value in WRONG:
            describe(damaged, whole | {name: value})
            for outcome in (predicted(), benched()):
                assert outcome[0] == 0 or refused(outcome) is None, (name, value)


def test_each_field_of_a_model_that_writes_is_what_it_can_be(tmp_path, small):
    whole = described(small) | {"answer": "text", "prompt": "{source}", "start": [], "end": 1, "max_new_tokens": 3}
    describe(tmp_path, whole)
    assert answers.read_bundle(tmp_path) == whole
    for name in answers.OWN_FIELDS["text"]:
        for content in (whole | {name: {}}, {other: value for other, value in whole.items() if other != name}):
            describe(tmp_path, content)
            with pytest.raises(answers.UsageError, match=name):
                answers.read_bundle(tmp_path)


def test_a_model_of_another_bundle_is_refused(damaged, predicted, benched):
    whole = described(damaged)
    describe(damaged, whole | {"inputs": ["input_ids"]})
    refused(predicted(), "model.onnx is not the model that bundle.json describes")
    refused(benched(), "is not the model that bundle.json describes")
    describe(damaged, whole | {"labels": ["one"]})
    refused(predicted(), "model.onnx has other labels than bundle.json")
    describe(damaged, whole | {"vocabulary_size": 10**6})
    refused(benched(), "cannot be run (")
    tokenizer = json.loads((damaged / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["film"] = 10**6
    (damaged / "tokenizer.json").write_text(json.dumps(tokenizer))
    describe(damaged, whole)
    refused(predicted(), "cannot be run (")


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json"])
def test_a_file_that_was_cut_is_one_sentence(damaged, predicted, benched, file):
    whole = (damaged / file).read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        (damaged / file).write_bytes(whole[:length])
        refused(predicted(), "is damaged (")
        if file == "model.onnx":
            refused(benched(), "is damaged (")
    (damaged / file).unlink()
    (damaged / file).mkdir()
    refused(predicted(), "is damaged (")


def test_weights_that_are_gone_are_one_sentence(damaged, predicted, benched):
    model = onnx.load(damaged / "model.onnx")
    (damaged / "model.onnx").unlink()
    weights = {"location": "model.onnx.data", "size_threshold": 1024, "convert_attribute": False}
    onnx.save(model, damaged / "model.onnx", save_as_external_data=True, **weights)
    assert predicted()[0] == benched()[0] == 0
    whole = (damaged / "model.onnx.data").read_bytes()
    (damaged / "model.onnx.data").write_bytes(whole[:10])
    refused(predicted(), "is damaged (")
    (damaged / "model.onnx.data").unlink()
    refused(predicted(), "is damaged (")
    refused(benched(), "is damaged (")


def test_lines_that_are_too_long_are_errors_for_themselves(small):
    longest = predict.LONGEST_LINE
    given = [b"x" * (longest - 1), b"y" * longest, b"z" * (3 * longest), b"lovely", b"w" * longest]
    code, out, _ = start(small / "predict.py", given=b"\n".join(given))
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and ["error" in answer for answer in answers] == [False, True, True, False, True]
    assert answers[2]["error"] == "line 3: it is longer than 1,000,000 bytes; cut it"


@pytest.mark.parametrize(
    "given", [b"\x00", b"\xff\xfe\n\xff", b"\n" * 3, b"a\r", "\u2028\x85\x0c".encode(), b"\x1b[31m"]
)
def test_every_line_of_standard_input_has_its_answer(small, given):
    code, out, err = start(small / "predict.py", given=given)
    expected = given.count(b"\n") + (not given.endswith(b"\n"))
    assert (code, err, len(out.splitlines())) == (0, "", expected)
    assert out.isascii() and all({"label", "error"} & json.loads(line).keys() for line in out.splitlines())


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.tsv", "pairs", "a\nb\x1b[31m.csv"])
def test_tables_are_refused_by_their_name(small, tmp_path, name):
    (tmp_path / name).write_text("text,label\na,b\n")
    refused(start(small / "predict.py", tmp_path / name), "is neither .txt, with a text a line, nor .jsonl")


@pytest.mark.parametrize(
    ("redirected", "code", "sentence"),
    [
        ("<&-", 2, b"standard input or output is closed"),
        (">&-", 2, b"standard input or output is closed"),
        (">/dev/full", 2, b"No space left on device"),
        ("| true", 0, b""),
    ],
)
def test_what_cannot_be_read_or_printed_is_one_sentence(small, redirected, code, sentence):
    shell = f'set -o pipefail; echo film | "$0" predict.py {redirected}'
    done = subprocess.run(["bash", "-c", shell, sys.executable], capture_output=True, check=False, cwd=small)
    assert (done.returncode, done.stdout) == (code, b"")
    assert sentence in done.stderr and len(done.stderr.splitlines()) == (code > 0)


def test_a_module_of_the_current_folder_is_not_run(small, tmp_path):
    """That of the bundle would be: Python looks beside a program first."""
    copy = Path(shutil.copytree(small, tmp_path / "bundle"))
    (tmp_path / "numpy.py").write_text("raise SystemExit('run')")
    for program in ("predict.py", "bench.py"):
        command = [sys.executable, copy / program, *(["--samples", "10"] if program == "bench.py" else [])]
        done = subprocess.run(command, input=b"film\n", capture_output=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
