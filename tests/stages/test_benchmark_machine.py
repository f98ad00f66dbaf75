"""Figures are those of the machine and the versions that they were measured with, and are measured anew elsewhere."""

import json
import os
from pathlib import Path

import pytest

import dsee_compress
from dsee_compress.evaluation import environment
from dsee_compress.stages import common
from dsee_compress.store import folders

FEW = {"samples": 10, "rounds": 1, "warmup": 0, "sequence_length": 8}


@pytest.fixture(scope="module")
def dense(bert_tuned, tmp_path_factory) -> Path:
    return dsee_compress.export(bert_tuned, output=tmp_path_factory.mktemp("dense") / "export", precision="fp32")


def key_of(folder: Path, name: str = "benchmark.json") -> dict:
    return json.loads((folder / name).read_text())["key"]


def edit_key(folder: Path, change, name: str = "benchmark.json") -> bytes:
    """Change the key of a result as if it came from elsewhere; returns the file's bytes."""
    content = json.loads((folder / name).read_text())
    change(content["key"])
    folders.write_json(folder / name, content)
    return (folder / name).read_bytes()


def test_what_was_measured_here_is_not_measured_again(dense, capsys):
    dsee_compress.benchmark(dense, **FEW)
    before = (dense / "benchmark.json").read_bytes()
    capsys.readouterr()
    dsee_compress.benchmark(dense, **FEW)
    assert (dense / "benchmark.json").read_bytes() == before
    assert capsys.readouterr().err == ""


def test_the_key_holds_machine_versions_threads_and_provider(dense):
    dsee_compress.benchmark(dense, **FEW)
    key = key_of(dense)
    described = environment.describe()
    assert key["config"]["threads"] == [environment.physical_cores()] and key["config"]["provider"] == "cpu"
    assert key["machine"] == {
        name: described[name]
        for name in ("cpu", "cpu_flags", "usable_cores", "physical_cores", "logical_cores", "system")
    }
    assert key["versions"]["python"] == described["python"]
    assert key["versions"]["onnxruntime"] == described["libraries"]["onnxruntime"]
    assert key["versions"]["dsee-compress"] == described["libraries"]["dsee-compress"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda key: key["machine"].update(cpu="Cortex-A72"), "before on another machine (cpu was Cortex-A72, is "),
        (lambda key: key["machine"].update(cpu_flags=[]), "before on another machine (cpu flags was none, is "),
        (lambda key: key["machine"].update(usable_cores=64), "before on another machine (usable cores was 64, is "),
        (lambda key: key["versions"].update(onnxruntime="1.22.0"), "with other versions (onnxruntime was 1.22.0, is "),
        (lambda key: key["versions"].pop("python"), "with other versions (python was none, is "),
        (lambda key: (key.pop("machine"), key.pop("versions")), "on another machine (which the file does not name)"),
    ],
)
def test_what_was_measured_elsewhere_is_no_result_of_here_and_said_not_to_be(tmp_path, capsys, change, sentence):
    key = {"folder": "f", "config": {"sequence_length": [8]}, **environment.of_latency("cpu")}
    result = {
        "key": key,
        "reference": "dense_fp32",
        "turns": "",
        "not_measured": "it is for another device",
        "latency": [],
        "grid": [],
        "size": [{"artifact": "dense_fp32", "baseline": False, "size_mb": 1.0, "zipped_mb": 1.0}],
        "environment": {**environment.describe(), "provider": "cpu", "threads": 1},
    }
    folders.write_json(tmp_path / "benchmark.json", result)
    assert common.measured_here(tmp_path / "benchmark.json", key)
    edit_key(tmp_path, change)
    capsys.readouterr()
    assert not common.measured_here(tmp_path / "benchmark.json", key)
    (said,) = capsys.readouterr().err.splitlines()
    assert sentence in said and said.endswith("; measuring here")


def test_fewer_cores_are_another_machine(dense, capsys):
    """Those that this process may use, as a container or taskset leaves them."""
    allowed = os.sched_getaffinity(0)
    dsee_compress.benchmark(dense, **FEW)
    capsys.readouterr()
    try:
        os.sched_setaffinity(0, {min(allowed)})
        dsee_compress.benchmark(dense, **FEW)
    finally:
        os.sched_setaffinity(0, allowed)
    expected = len(allowed) > 1
    assert (f"usable cores was {len(allowed)}, is 1" in capsys.readouterr().err) == expected
    assert key_of(dense)["machine"]["usable_cores"] == 1
    assert key_of(dense)["config"]["threads"] == [1]


def test_the_quota_of_a_container_leaves_fewer_cores(monkeypatch):
    from joblib.externals.loky.backend import context

    monkeypatch.setattr(context, "_cpu_count_cgroup", lambda cores: 1)
    assert environment.usable_cores() == environment.physical_cores() == 1


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff", b'{"key": 1}', b'{"key": {"machine": 3}}', b"[" * 100_000]
)
def test_a_damaged_result_is_none(tmp_path, content):
    (tmp_path / "benchmark.json").write_bytes(content)
    assert not common.measured_here(tmp_path / "benchmark.json", environment.of_latency("cpu"))


def test_answers_are_validated_anew_where_int8_computes_otherwise(dense, capsys):
    dsee_compress.validate(dense, max_compression_drop=0.9)
    assert {"cpu_flags", "system"} == key_of(dense, "validation.json")["machine"].keys()
    before = (dense / "validation.json").read_bytes()
    dsee_compress.validate(dense, max_compression_drop=0.9)
    assert (dense / "validation.json").read_bytes() == before
    edit_key(dense, lambda key: key["machine"].update(cpu_flags=["avx512_vnni"]), "validation.json")
    capsys.readouterr()
    dsee_compress.validate(dense, max_compression_drop=0.9)
    assert "validation.json was measured before on another machine (cpu flags was avx" in capsys.readouterr().err
    assert (dense / "validation.json").read_bytes() == before


def test_what_pytorch_alone_answers_is_of_no_machine(bert_tuned):
    dsee_compress.validate(bert_tuned)
    assert "machine" not in key_of(bert_tuned, "validation.json")
