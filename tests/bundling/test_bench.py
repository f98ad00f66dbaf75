"""bench.py on a device: latency.json, by the rules of `benchmark`."""

import json

import numpy as np
import pytest

from dsee_compress.evaluation import inputs, latency
from dsee_compress.runtime import calls
from dsee_compress.store import lineage, versions

from .test_predict import refused

ROW = {"artifact", "provider", "threads", "batch", "sequence_length", "samples", "mean_ms", "stdev_ms", "p50_ms"} | {
    "p90_ms",
    "p95_ms",
    "p99_ms",
    "throughput",
    "peak_rss_mb",
    "size_mb",
    "cold_start_ms",
    "raw_ms",
}


@pytest.fixture(scope="module")
def measured(device, small, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("measured")
    options = ("--batch", 3, "--sequence-length", 20, "--threads", 1, "--samples", 30, "--warmup", 2)
    done = device.run(small / "bench.py", *options, folder=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().splitlines()[-1] == "wrote latency.json"
    assert [path.name for path in folder.iterdir()] == ["latency.json"]
    return json.loads((folder / "latency.json").read_text())


def test_it_says_what_was_measured(measured, small_export):
    assert list(measured) == ["schema", "bundle", "artifact", "latency", "environment"]
    assert (measured["schema"], measured["artifact"]) == (1, "dense_int8")
    assert measured["bundle"] == lineage.fingerprint(small_export)
    (row,) = measured["latency"]
    assert set(row) == ROW
    assert (row["artifact"], row["provider"], row["threads"]) == ("dense_int8", "cpu", 1)
    assert (row["batch"], row["sequence_length"], row["samples"]) == (3, 20, 30)
    assert row["size_mb"] == (small_export / "model_int8.onnx").stat().st_size / 1e6


def test_figures_follow_from_the_samples_as_those_of_benchmark(measured):
    row = measured["latency"][0]
    samples = np.array(row["raw_ms"])
    assert samples.shape == (1, 30)
    for name, value in latency.summarise(samples, batch=3).items():
        assert row[name] == pytest.approx(value, rel=1e-2)


def test_cold_start_and_memory_are_of_whole_processes(measured):
    row = measured["latency"][0]
    assert row["cold_start_ms"] > np.min(row["raw_ms"]), "a process starts, loads and answers"
    assert 20 < row["peak_rss_mb"] < 300


def test_environment_names_the_machine_and_its_libraries(measured):
    environment = measured["environment"]
    assert environment["cpu"] and environment["physical_cores"] >= 1 and environment["logical_cores"] >= 1
    assert (environment["provider"], environment["threads"]) == ("cpu", 1)
    pinned = versions.of_libraries()
    assert environment["libraries"]["onnxruntime"] == pinned["onnxruntime"]
    assert environment["libraries"].keys() == {"numpy", "onnxruntime", "tokenizers"}


@pytest.mark.parametrize("shape", [(1, 2), (1, 128), (7, 33)])
def test_batches_are_those_of_benchmark(shape):
    names = ["input_ids", "token_type_ids", "attention_mask"]
    described = {"inputs": names, "vocabulary_size": 500, "padding": {"id": 1}}
    ours = inputs.random_batches([shape], 500, names, pad_token=1)[0]
    theirs = calls.random_batch(described, *shape)
    assert list(theirs) == names
    assert all(np.array_equal(ours[name], theirs[name]) for name in names)


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--batch", "0"], "argument --batch: '0' is not a whole number from 1"),
        (["--sequence-length", "141"], "argument --sequence-length: '141' is not a whole number from 2 to 140"),
        (["--samples", "9"], "argument --samples: '9' is not a whole number from 10"),
        (["--warmup", "-1"], "argument --warmup: '-1' is not a whole number from 0"),
        (["--threads", "100000"], "argument --threads: '100000' is not a whole number from 1 to"),
        (["--samples", "1.5"], "argument --samples: '1.5' is not a whole number"),
        (["--sequence_length", "9"], "unrecognized arguments: --sequence_length 9; see python bench.py --help"),
        (["--output", "no/latency.json"], "there is no folder no for the output"),
        (["--output", "."], "the output . is no file that could be replaced"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(device, small, tmp_path, arguments, sentence):
    refused(device.run(small / "bench.py", *arguments, folder=tmp_path), sentence)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file", ["model.onnx", "bundle.json", "tokenizer.json", "predict.py"])
def test_a_damaged_bundle_is_one_sentence_and_writes_nothing(device, damaged, tmp_path, file):
    (damaged / file).write_text("{")
    refused(device.run(damaged / "bench.py", "--samples", 10, folder=tmp_path), "")
    assert not (tmp_path / "latency.json").exists()
