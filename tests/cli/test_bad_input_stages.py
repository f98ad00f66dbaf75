"""Mistakes in what a later stage is asked for, or reads: exit code 2 and one sentence (DESIGN section 10)."""

import json

import pytest

from .shell import refused


@pytest.mark.parametrize("value", ["1.0", "1.5", "-0.1"])
@pytest.mark.parametrize("option", ["--heads", "--neurons", "--weights", "--flops-saved"])
def test_shares_outside_zero_to_one(shell, bert_tuned, tmp_path, option, value):
    refused(shell("prune", bert_tuned, "--output", tmp_path / "out", option, value), f"got {float(value)}")


def test_structured_and_unstructured_at_once(shell, bert_tuned, tmp_path):
    result = shell("prune", bert_tuned, "--output", tmp_path / "out", "--weights", 0.5, "--heads", 0.5)
    refused(result, "heads and weights are different goals; choose one")


def test_delta_cannot_rank_weights_of_different_matrices(shell, bert_tuned, tmp_path):
    options = ("--weights", 0.5, "--criterion", "delta", "--allocation", "global")
    result = shell("prune", bert_tuned, "--output", tmp_path / "out", *options)
    refused(result, "use allocation per-layer or another criterion")


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--semi-structured", "2/4"], "semi_structured: string should match pattern"),
        (["--semi-structured", "4:4"], "semi_structured 4:4 removes nothing"),
        (["--semi-structured", "2:7"], "semi_structured 2:7 does not fit: rows of 32 weights do not divide"),
        (["--flops-saved", "0.99"], "flops_saved 0.99 is out of reach: at most"),
        (["--criterion", "slimming"], "criterion 'slimming' needs the coefficients of finetune --slimming"),
        (["--criterion", "slimming", "--weights", "0.5"], "scores heads and neurons, not single weights"),
        (["--round-to", "8", "--weights", "0.5"], "round_to 8 is about neurons, and weights removes single weights"),
        (["--steps", "3", "--semi-structured", "2:4"], "one pattern, which cannot be reached in steps"),
        (["--distill", "--retune-epochs", "0"], "distill is about retuning, and retune_epochs is 0"),
        (["--criterion", "fisher"], "criterion: input should be 'auto', 'delta'"),
        (["--steps", "0"], "steps: input should be greater than or equal to 1"),
    ],
)
def test_goals_that_cannot_be_met(shell, bert_tuned, tmp_path, options, sentence):
    refused(shell("prune", bert_tuned, "--output", tmp_path / "out", *options), sentence)
    assert not (tmp_path / "out").exists()


def test_an_export_that_lost_a_file(shell, copy, bert_exported):
    folder = copy(bert_exported)
    (folder / "model.onnx").unlink()
    for command in ("benchmark", "validate"):
        refused(shell(command, folder), "model.onnx is missing; export again with --overwrite")


def test_a_folder_that_is_its_own_baseline(shell, bert_exported):
    refused(
        shell("benchmark", bert_exported, "--baseline", bert_exported),
        "would be compared with itself; give another folder",
    )


def test_more_rounds_than_samples(shell, bert_exported):
    refused(shell("benchmark", bert_exported, "--samples", 10, "--rounds", 11), "10 samples do not fill 11 rounds")


def test_a_stage_folder_without_config_or_tokenizer(shell, copy, bert_tuned, tmp_path):
    folder = copy(bert_tuned)
    (folder / "tokenizer.json").write_text("{")
    refused(shell("prune", folder, "--output", tmp_path / "out"), "the tokenizer in")
    (folder / "config.json").unlink()
    refused(shell("prune", folder, "--output", tmp_path / "out"), "config.json is missing or damaged")


def test_damaged_results(shell, tmp_path, bert_tuned):
    run = tmp_path / "run"
    assert shell("prune", bert_tuned, "--output", run / "prune", "--retune-epochs", 0)[0] == 0
    assert shell("export", run / "prune", "--output", run / "export")[0] == 0
    refused(shell("report", run), "has no validation.json; run dsee-compress validate")
    (run / "export" / "validation.json").write_text("{")
    refused(shell("report", run), "validation.json is damaged; run dsee-compress validate")


def test_delta_without_updates_on_query_and_value(shell, small, tmp_path):
    assert shell(*small, "--targets", "ffn_in", "--rank", 1, "--sparse", 0)[0] == 0
    result = shell("prune", tmp_path / "out", "--output", tmp_path / "pruned", "--criterion", "delta")
    refused(result, "fine-tune with --targets query,value")


def test_folder_of_the_wrong_stage(shell, bert_pruned, bert_exported, tmp_path):
    refused(
        shell("prune", bert_pruned, "--output", tmp_path / "out"), "is the output of prune; this needs that of finetune"
    )
    refused(shell("export", bert_exported, "--output", tmp_path / "out"), "is the output of export; this needs")
    refused(shell("benchmark", bert_pruned), "is the output of prune; this needs that of export")


def test_folder_that_is_no_stage_or_not_there(shell, data, tmp_path):
    refused(shell("export", data, "--output", tmp_path / "out"), "is not a stage folder: it has no dsee.json")
    refused(shell("inspect", tmp_path / "nowhere"), "there is no folder")


def test_truncated_stage_weights(shell, copy, bert_tuned, tmp_path):
    folder = copy(bert_tuned)
    weights = folder / "adapter.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refused(shell("prune", folder, "--output", tmp_path / "out"), "adapter.safetensors is damaged")


def test_damaged_and_newer_manifest(shell, copy, bert_tuned, tmp_path):
    folder = copy(bert_tuned)
    manifest = json.loads((folder / "dsee.json").read_text())
    (folder / "dsee.json").write_text(json.dumps(manifest | {"schema": 2}))
    refused(shell("inspect", folder), "has schema 2, and this version of dsee-compress reads up to 1; upgrade it")
    (folder / "dsee.json").write_text('{"schema": 1, "stage":')
    refused(shell("inspect", folder), "dsee.json is damaged")


def test_output_that_holds_something_else(shell, small, tmp_path):
    (tmp_path / "out").mkdir()
    refused(shell(*small), "already exists and is not a stage folder")


def test_output_made_with_other_options_names_the_difference(shell, small, tmp_path):
    assert shell(*small)[0] == 0
    refused(shell(*small, "--rank", 2), "rank was 8 and is now 2); use --overwrite to replace it")
    assert shell(*small)[0] == 0, "the same again is up to date"


def test_truncated_onnx(shell, copy, bert_exported):
    folder = copy(bert_exported)
    model = folder / "model.onnx"
    model.write_bytes(model.read_bytes()[:1000])
    refused(shell("benchmark", folder, "--samples", 10, "--sequence-length", 16), "ONNX Runtime cannot load")


def test_sequence_longer_than_the_model_reads(shell, bert_exported):
    refused(shell("benchmark", bert_exported, "--sequence-length", 141), "more than the 140 tokens")


def test_report_before_measuring(shell, copy, bert_exported):
    folder = copy(bert_exported)
    for name in ("validation.json", "benchmark.json"):
        (folder / name).unlink(missing_ok=True)
    refused(shell("report", folder), "cannot be reported on")
