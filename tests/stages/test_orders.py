"""Pruning to what a device allows."""

import json
import shutil

import pytest

import dsee_compress
from dsee_compress.errors import GateError, UserError
from dsee_compress.evaluation import environment
from dsee_compress.store.manifest import PruneManifest

from ..conftest import FINETUNE

LEAST = {"retune_epochs": 0, "batch_size": 16}


@pytest.fixture(scope="module")
def adapter(bert_tuned, tmp_path_factory):
    """A copy, whose tables are this file's own."""
    return shutil.copytree(bert_tuned, tmp_path_factory.mktemp("orders") / "adapter")


@pytest.fixture(scope="module")
def faster(adapter):
    """Pruned to be faster than dense, by a measured table."""
    return dsee_compress.prune(adapter, output=adapter.parent / "faster", speedup=1.02, sequence_length=32, **LEAST)


def table_of(adapter):
    (file,) = adapter.with_name("adapter.tables").glob("latency-*.json")
    return file


def rewritten(adapter, change):
    """Put other costs into the table, as if they had been measured."""
    content = json.loads(table_of(adapter).read_text())
    change(content["table"])
    table_of(adapter).write_text(json.dumps(content))


def even(table):
    """10 ms, and each layer 1 ms a head and a tenth of one a neuron."""
    heads = {"counts": [1, 2, 3, 4], "costs": [1.0, 2.0, 3.0, 4.0]}
    neurons = {"counts": [*range(1, 41)], "costs": [count / 10 for count in range(1, 41)]}
    table |= {"elsewhere": 10.0, "heads": [heads] * 3, "neurons": [neurons] * 3}


def test_a_speedup_is_of_a_table_that_was_measured_here(faster, adapter):
    order = PruneManifest.read(faster).metrics.order
    assert order.order == "speedup" and order.unit == "ms" and order.precision == "int8"
    assert order.predicted <= order.budget == pytest.approx(order.dense / 1.02)
    content = json.loads(table_of(adapter).read_text())
    assert content["key"]["machine"] == json.loads(json.dumps(environment.of_latency("cpu")["machine"]))
    assert content["key"]["called"] == {
        "provider": "cpu",
        "threads": environment.physical_cores(),
        "batch": 1,
        "sequence_length": 32,
    }


def test_a_table_of_this_machine_is_used_again_and_chooses(faster, adapter, tmp_path):
    """34 ms for the whole model: 20 are left where no layer keeps more than its share of what counts."""
    rewritten(adapter, even)
    pruned = dsee_compress.prune(adapter, output=tmp_path / "pruned", latency=20, sequence_length=32, **LEAST)
    manifest = PruneManifest.read(pruned)
    order, structure = manifest.metrics.order, manifest.structure
    cost = 10 + sum(structure.head_counts) + sum(structure.neuron_counts) / 10
    assert order.dense == pytest.approx(34) and order.budget == 20
    assert order.predicted == pytest.approx(cost) and 19.9 < cost <= 20 + 1e-9
    assert manifest.metrics.removal_max_abs <= 1e-4

    def steps(table):
        even(table)
        table["neurons"] = [table["neurons"][0] | {"costs": [-(-count // 8) for count in range(1, 41)]}] * 3

    rewritten(adapter, steps)
    pruned = dsee_compress.prune(adapter, output=tmp_path / "steps", speedup=1.5, sequence_length=32, **LEAST)
    assert all(count % 8 == 0 for count in PruneManifest.read(pruned).structure.neuron_counts)


def test_steps_come_nearer_and_end_within_the_budget(faster, adapter, tmp_path):
    rewritten(adapter, even)
    options = {"steps": 3, "latency": 18, "sequence_length": 32, "learning_rate": 1e-3, "retune_epochs": 1}
    pruned = dsee_compress.prune(adapter, output=tmp_path / "pruned", batch_size=16, **options)
    assert 17.8 < PruneManifest.read(pruned).metrics.order.predicted <= 18 + 1e-9


@pytest.mark.parametrize("criterion", ["delta", "random"])
def test_scores_of_different_scales_are_shares(faster, adapter, tmp_path, criterion):
    """Neither heads alone nor neurons alone go."""
    rewritten(adapter, even)
    options = {"criterion": criterion, "latency": 22, "sequence_length": 32}
    pruned = dsee_compress.prune(adapter, output=tmp_path / "pruned", **options, **LEAST)
    structure = PruneManifest.read(pruned).structure
    assert sum(structure.head_counts) < 12 and sum(structure.neuron_counts) < 120


@pytest.fixture(scope="module")
def sized(bert, data, adapter, tmp_path_factory):
    """A run whose int8 file is ordered a few kilobytes smaller than the dense one, and the MB that it may have."""
    whole = dsee_compress.export(adapter, output=tmp_path_factory.mktemp("whole") / "export", precision="int8")
    budget = (whole / "model_int8.onnx").stat().st_size / 1e6 - 0.006
    recipe = {
        "finetune": {"model": str(bert), "data": str(data), **FINETUNE},
        "prune": {"size": budget, "learning_rate": 1e-2, "batch_size": 16},
        "validate": {"max_drop": 0.9, "max_compression_drop": 0.9},
        "benchmark": {"samples": 10, "rounds": 1, "warmup": 1, "sequence_length": 16, "threads": 1},
    }
    return dsee_compress.run(recipe, output=tmp_path_factory.mktemp("sized") / "run"), budget


def test_the_file_keeps_to_its_size_and_the_report_says_so(sized):
    run, budget = sized
    order = PruneManifest.read(run / "prune").metrics.order
    size = (run / "export" / "model_int8.onnx").stat().st_size / 1e6
    assert order.unit == "MB" and order.budget == budget and order.predicted <= budget
    assert size == pytest.approx(order.predicted, rel=0.04)
    told = json.loads((run / "report.json").read_text())["ordered"]
    assert told["measured"]["value"] == size and told["order"]["predicted"] == order.predicted
    assert (run / "dense" / "model_int8.onnx").is_file(), "what is ordered is measured beside the dense model"
    sentence = f"{order.predicted:.3g} by the table of what layers cost, {size:.3g} measured"
    assert all(sentence in (run / name).read_text() for name in ("report.md", "report.html"))


def test_a_table_that_was_wrong_is_caught(sized, tmp_path):
    run = shutil.copytree(sized[0], tmp_path / "run")
    manifest = json.loads((run / "prune" / "dsee.json").read_text())
    manifest["metrics"]["order"]["predicted"] *= 0.8
    (run / "prune" / "dsee.json").write_text(json.dumps(manifest))
    with pytest.raises(GateError, match="gate 'cost' failed: pruned_int8 takes"):
        dsee_compress.benchmark(run / "export", overwrite=True, samples=10, rounds=1, sequence_length=16)


def test_a_damaged_table_and_one_of_another_machine_are_made_anew(faster, adapter, tmp_path):
    rewritten(adapter, even)
    good = table_of(adapter).read_text()
    for number, bad in enumerate(
        ("{", good.replace('"costs": [1.0, ', '"costs": ['), good.replace('"cpu": "', '"cpu": "another '))
    ):
        assert bad != good
        table_of(adapter).write_text(bad)
        options = {"speedup": 1.02, "sequence_length": 32}
        dsee_compress.prune(adapter, output=tmp_path / str(number), **options, **LEAST)
        assert json.loads(table_of(adapter).read_text())["table"]["elsewhere"] != 10.0


@pytest.mark.parametrize(
    "options, said",
    [
        ({"latency": 10.5}, "latency 10.5 is out of reach: the fastest structure takes 13.3 ms, the whole model 34"),
        ({"speedup": 3}, "speedup 3 is out of reach: the fastest structure is 2.56 times as fast"),
        ({"size": 0.001, "precision": "fp32"}, "size 0.001 is out of reach: the smallest structure takes"),
    ],
)
def test_what_is_out_of_reach_is_told_before_training(faster, adapter, tmp_path, options, said):
    rewritten(adapter, even)
    with pytest.raises(UserError, match=said):
        dsee_compress.prune(adapter, output=tmp_path / "pruned", sequence_length=32, **options, **LEAST)
    assert not (tmp_path / "pruned").exists()


@pytest.mark.parametrize(
    "options, said",
    [
        ({"latency": 5, "speedup": 2}, "latency and speedup are different goals"),
        ({"latency": 5, "flops_saved": 0.2}, "flops_saved and latency are different goals"),
        ({"speedup": 2, "allocation": "global"}, "leave allocation and round_to out"),
        ({"speedup": 1}, "greater than 1"),
        ({"flops_saved": 0.2, "precision": "int8"}, "precision is about latency, speedup and size"),
        ({"speedup": 2, "target": "arm64"}, "speedup cannot be measured here: the target is arm64"),
        ({"latency": 2, "target": "mobile"}, "latency cannot be measured here: the target is mobile"),
        ({"speedup": 2, "precision": "int8_static"}, "speedup cannot be told of int8_static"),
        ({"size": 2, "target": "nowhere"}, "there is no target 'nowhere'"),
    ],
)
def test_what_contradicts_itself_is_refused(adapter, tmp_path, options, said):
    with pytest.raises(UserError, match=said):
        dsee_compress.prune(adapter, output=tmp_path / "pruned", **options, **LEAST)


def test_a_model_that_writes_is_not_ordered_by_the_millisecond(tuned_decoders, tmp_path):
    with pytest.raises(UserError, match="latency is for models that answer in one call; use flops_saved for gpt2"):
        dsee_compress.prune(tuned_decoders("gpt2"), output=tmp_path / "pruned", latency=5)
