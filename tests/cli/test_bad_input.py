"""DESIGN section 10: each mistake ends with exit code 2 and one sentence that says what, where and what to do."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from dsee_compress_cli import main as cli


class Shell:
    """Runs commands in this process and remembers what they printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str]:
        code = cli._run([str(argument) for argument in arguments], debug=False)
        return code, self._capsys.readouterr().err


@pytest.fixture
def shell(capsys) -> Shell:
    return Shell(capsys)


@pytest.fixture
def copy(tmp_path) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / f"copy of {folder.name}"))

    return make


@pytest.fixture
def small(bert, data, tmp_path) -> list[object]:
    """A whole finetune command; a test adds what is wrong with it."""
    return ["finetune", "--model", bert, "--data", data, "--output", tmp_path / "out", "--epochs", 1]


def changed(arguments: list[object], option: str, value: object) -> list[object]:
    position = arguments.index(option)
    return [*arguments[: position + 1], value, *arguments[position + 2 :]]


def refused(result: tuple[int, str], sentence: str) -> None:
    code, printed = result
    assert code == 2, printed
    assert "Traceback" not in printed
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert errors == printed.splitlines()[-1:], "one sentence, and the last"
    assert sentence in errors[0]


def test_no_such_model_folder(shell, small):
    refused(shell(*changed(small, "--model", "./nowhere")), "there is no model folder ./nowhere")


def test_hub_id_that_cannot_be_had(shell, small):
    refused(
        shell(*changed(small, "--model", "nobody/nothing")),
        "has no readable config, neither in a folder nor on the hub",
    )


def test_model_folder_without_config(shell, small, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(shell(*changed(small, "--model", tmp_path / "empty")), "has no config.json")


def test_package_that_is_not_installed(shell, small):
    refused(shell(*changed(small, "--model", "package:nowhere_at_all/x")), "'nowhere_at_all' is not installed")


def test_wrong_checksum(shell, small):
    refused(shell(*small, "--model-sha256", "0" * 64), "not the expected 0000")


def test_architecture_that_is_not_supported(shell, small, copy, bert):
    folder = copy(bert)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "albert"}))
    refused(shell(*changed(small, "--model", folder)), "'albert' is not supported; supported are: bert, deb")


def test_truncated_pretrained_weights(shell, small, copy, bert):
    folder = copy(bert)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    refused(shell(*changed(small, "--model", folder)), "model.safetensors is damaged")


def test_pickled_weights_are_not_loaded(shell, small, copy, bert):
    folder = copy(bert)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(shell(*changed(small, "--model", folder)), "has no model.safetensors")


def test_no_such_data(shell, small):
    refused(shell(*changed(small, "--data", "./nowhere")), "there is no data folder ./nowhere")


def test_data_from_the_hub_that_cannot_be_had(shell, small):
    refused(shell(*changed(small, "--data", "glue/nothing")), "data 'glue/nothing' is neither a folder nor to be had")


def test_data_that_is_a_file(shell, small, data):
    refused(shell(*changed(small, "--data", data / "train.jsonl")), "is a file; give the folder")


def test_missing_split(shell, small, tmp_path, data):
    (tmp_path / "data").mkdir()
    shutil.copy(data / "train.jsonl", tmp_path / "data")
    refused(shell(*changed(small, "--data", tmp_path / "data")), "has no validation split; it needs validation.jsonl")


def test_empty_split(shell, small, copy, data):
    folder = copy(data)
    (folder / "train.jsonl").write_text("")
    refused(shell(*changed(small, "--data", folder)), "train.jsonl is empty")


def test_csv_with_a_header_alone(shell, small, copy, data):
    folder = copy(data)
    (folder / "train.jsonl").unlink()
    (folder / "train.csv").write_text("text,label\n")
    refused(shell(*changed(small, "--data", folder)), "train.csv has no rows")


def test_split_given_twice(shell, small, copy, data):
    folder = copy(data)
    (folder / "train.csv").write_text("text,label\na,b\n")
    refused(shell(*changed(small, "--data", folder)), "twice: train.jsonl and train.csv")


def test_broken_json_line(shell, small, copy, data):
    folder = copy(data)
    with (folder / "train.jsonl").open("a") as file:
        file.write('{"text": "unfinished\n')
    refused(shell(*changed(small, "--data", folder)), "train.jsonl cannot be read as jsonl")


def test_misspelt_column(shell, small):
    refused(shell(*small, "--text", "txet"), "has no column 'txet'; did you mean 'text'?")


def test_label_unseen_in_training(shell, small, copy, data):
    folder = copy(data)
    with (folder / "validation.jsonl").open("a") as file:
        file.write('{"text": "a film", "label": "middling"}\n')
    refused(shell(*changed(small, "--data", folder)), "has the label 'middling', which is not in the train split")


def test_f1_of_more_labels_than_two_needs_a_name(shell, small, copy, data):
    folder = copy(data)
    with (folder / "train.jsonl").open("a") as file:
        file.write('{"text": "a film", "label": "middling"}\n')
    arguments = [*changed(small, "--data", folder), "--metric", "f1"]
    refused(shell(*arguments), "has 3; name it with --positive, or choose matthews")


@pytest.mark.parametrize(
    "split, labels, sentence",
    [
        ("train", [1.5, float("nan")], "has nan in 'label', row 1; regression needs numbers"),
        ("validation", [1.5, None], "has None in 'label', row 1; regression needs numbers"),
        ("validation", ["1.5", "2.5"], "has '1.5' in 'label', row 0; regression needs numbers"),
        ("train", [2, 2], "has 2 in 'label' of every row; regression needs two values"),
        ("validation", [2.5], "has 2.5 in 'label' of every row; regression needs two values"),
    ],
)
def test_labels_that_regression_cannot_take(shell, small, tmp_path, split, labels, sentence):
    from ..fixtures.models import write_jsonl

    (tmp_path / "data").mkdir()
    for name, column in ({"train": [1.5, 2.5], "validation": [1.5, 2.5]} | {split: labels}).items():
        write_jsonl(tmp_path / "data" / f"{name}.jsonl", [{"text": "a film", "label": label} for label in column])
    result = shell(*changed(small, "--data", tmp_path / "data"), "--task", "regression")
    refused(result, sentence)
    assert f"the {split} split of" in result[1]


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--metric", "accuracy"], "metric accuracy is not of regression, which has pearson, spearman"),
        (["--positive", "good"], "positive names a label, and regression has none"),
    ],
)
def test_options_of_classification_in_a_regression(shell, small, options, sentence):
    refused(shell(*small, "--task", "regression", *options), sentence)


def test_text_longer_than_the_model_reads(shell, small):
    refused(shell(*small, "--max-length", 500), "max_length 500 is more than the 140 tokens that the model reads")


@pytest.mark.parametrize(
    "option, value, sentence",
    [
        ("--rank", 33, "rank 33 is more than a 32 by 32 matrix has"),
        ("--rank", -1, "rank: input should be greater than or equal to 0, got -1"),
        ("--sparse", 1025, "a matrix of 1024 entries has no support of 1025"),
        ("--targets", "query,values", "input should be 'query', 'key', 'value'"),
        ("--learning-rate", 0, "learning_rate: input should be greater than 0, got 0.0"),
        ("--device", "tpu", "device: input should be 'auto', 'cpu' or 'cuda', got 'tpu'"),
        ("--device", "cuda", "PyTorch finds no CUDA device; use --device cpu or auto"),
        ("--precision", "fp16", "precision fp16 trains on CUDA only"),
        ("--epochs", "many", "Invalid value for '--epochs': Input should be a valid integer"),
        ("--rnak", 3, "No such option: --rnak"),
        ("--targets", "query,query", "targets names one twice: query, query"),
        ("--seed", 2**32, "seed: input should be less than 4294967296"),
        ("--learning-rate", "inf", "learning_rate: input should be a finite number"),
        ("--learning-rate", 1e30, "training diverged with a learning rate of 1e+30; choose a smaller one"),
        ("--rank-pattern", "query", "rank_pattern: write it as PATTERN=VALUE, not 'query'"),
        ("--rank-pattern", "[=3", "rank_pattern: '[' is no regular expression: unterminated character set"),
        ("--rank-pattern", "query=-1", "rank_pattern.query: input should be greater than or equal to 0, got '-1'"),
        ("--sparse-pattern", "query=few", "sparse_pattern.query: input should be a valid integer"),
        ("--alpha-pattern", "query=0", "alpha_pattern.query: input should be greater than 0"),
        ("--rank-pattern", "kwery=3", "rank_pattern: 'kwery' matches no target; they are called 0.query"),
        ("--rank-pattern", "query=33", "rank 33 is more than a 32 by 32 matrix has"),
        ("--max-length", 2, "max_length 2 leaves no room beside the 2 special tokens of a row"),
        ("--task", "ranking", "task: input should be 'classification', 'regression' or 'generation', got 'ranking'"),
        ("--task", "regression", "has 'bad' in 'label', row 0; regression needs numbers"),
        ("--metric", "recall", "'bleu', 'chrf', 'ter', 'rouge_l', 'nist' or 'perplexity', got 'recall'"),
        ("--metric", "pearson", "metric pearson is not of classification, which has accuracy, f1, matthews"),
        ("--positive", "goodd", "has no label 'goodd'; did you mean 'good'?"),
    ],
)
def test_wrong_option(shell, small, option, value, sentence):
    refused(shell(*small, option, value), sentence)


def test_weights_of_another_model(shell, small, copy, bert):
    """Their names fit nowhere: without a word, transformers would start from random weights."""
    from dsee_compress import checkpoint

    folder = copy(bert)
    tensors = checkpoint.load_tensors(folder / "model.safetensors")
    checkpoint.save_tensors({f"other.{name}": t for name, t in tensors.items()}, folder / "model.safetensors")
    refused(shell(*changed(small, "--model", folder)), "they are of another model")


def test_a_classifier_with_other_labels_gets_a_new_head(shell, small, copy, bert):
    from dsee_compress import checkpoint

    folder = copy(bert)
    tensors = checkpoint.load_tensors(folder / "model.safetensors")
    tensors["classifier.weight"], tensors["classifier.bias"] = (tensors["classifier.weight"].repeat(3, 1), None)
    tensors["classifier.bias"] = tensors["classifier.weight"][:, 0].clone()
    checkpoint.save_tensors(tensors, folder / "model.safetensors")
    assert shell(*changed(small, "--model", folder))[0] == 0


def test_a_damaged_tokenizer(shell, small, copy, bert):
    folder = copy(bert)
    (folder / "tokenizer.json").write_text('{"version": "1.0"')
    refused(shell(*changed(small, "--model", folder)), "cannot be loaded")


def test_a_tokenizer_of_another_model(shell, small, copy, bert):
    folder = copy(bert)
    config = json.loads((folder / "config.json").read_text())
    import torch

    from dsee_compress import checkpoint

    tensors = checkpoint.load_tensors(folder / "model.safetensors")
    name = "bert.embeddings.word_embeddings.weight"
    tensors[name] = torch.ones(20, tensors[name].shape[1])
    checkpoint.save_tensors(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 20}))
    refused(shell(*changed(small, "--model", folder)), "they do not belong together")


@pytest.mark.parametrize("family, name", [("bert", "hidden_act"), ("distilbert", "activation")])
def test_an_activation_that_is_not_fused(shell, small, copy, pretrained_folders, family, name):
    folder = copy(pretrained_folders[family])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {name: "relu"}))
    refused(shell(*changed(small, "--model", folder)), "has 'relu' in its FFN; gelu alone is exported as it should be")


def test_labels_that_are_lists(shell, small, copy, data):
    folder = copy(data)
    (folder / "train.jsonl").write_text('{"text": "a", "label": [1]}\n{"text": "b", "label": [0]}\n')
    refused(shell(*changed(small, "--data", folder)), "has lists or objects in 'label'")


def test_output_below_a_file(shell, small, data):
    refused(shell(*changed(small, "--output", data / "train.jsonl" / "out")), "train.jsonl")


def test_data_gone_after_finetune(shell, small, copy, data, tmp_path):
    folder = copy(data)
    assert shell(*changed(small, "--data", folder))[0] == 0
    shutil.rmtree(folder)
    refused(shell("prune", tmp_path / "out", "--output", tmp_path / "pruned"), "there is no data folder")


def test_nothing_to_train(shell, small):
    refused(shell(*small, "--rank", 0, "--sparse", 0), "nothing would be trained but the head")


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


def test_an_export_that_lost_a_file(shell, copy, exported):
    folder = copy(exported)
    (folder / "model.onnx").unlink()
    for command in ("benchmark", "validate"):
        refused(shell(command, folder), "model.onnx is missing; export again with --overwrite")


def test_a_folder_that_is_its_own_baseline(shell, exported):
    refused(shell("benchmark", exported, "--baseline", exported), "would be compared with itself; give another folder")


def test_more_rounds_than_samples(shell, exported):
    refused(shell("benchmark", exported, "--samples", 10, "--rounds", 11), "10 samples do not fill 11 rounds")


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


def test_folder_of_the_wrong_stage(shell, pruned, exported, tmp_path):
    refused(shell("prune", pruned, "--output", tmp_path / "out"), "is the output of prune; this needs that of finetune")
    refused(shell("export", exported, "--output", tmp_path / "out"), "is the output of export; this needs")
    refused(shell("benchmark", pruned), "is the output of prune; this needs that of export")


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


def test_truncated_onnx(shell, copy, exported):
    folder = copy(exported)
    model = folder / "model.onnx"
    model.write_bytes(model.read_bytes()[:1000])
    refused(shell("benchmark", folder, "--samples", 10, "--sequence-length", 16), "ONNX Runtime cannot load")


def test_sequence_longer_than_the_model_reads(shell, exported):
    refused(shell("benchmark", exported, "--sequence-length", 141), "more than the 140 tokens")


def test_report_before_measuring(shell, copy, exported):
    folder = copy(exported)
    for name in ("validation.json", "benchmark.json"):
        (folder / name).unlink(missing_ok=True)
    refused(shell("report", folder), "cannot be reported on")


def recipe(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    "content, sentence",
    [
        ({"finetune": {"rnak": 8}}, "unknown option 'finetune.rnak'; did you mean 'rank'?"),
        ({"fine_tune": {}}, "unknown option 'fine_tune'; did you mean 'finetune'?"),
        ({"prune": {}}, "option 'finetune' is missing"),
        ({"finetune": {"data": "x"}}, "option 'finetune.model' is missing"),
        ({"finetune": {"model": "x", "data": "x", "rank": "eight"}}, "finetune.rank: input should be a valid integer"),
        ({"finetune": {"model": "x", "data": "x"}, "validate": {"splt": 1}}, "did you mean 'split'?"),
        ("- a\n- b\n", "must map stages (finetune, prune, export, validate, benchmark)"),
        ("finetune: {model: [", "is not YAML"),
    ],
)
def test_wrong_recipe(shell, tmp_path, content, sentence):
    result = shell("run", recipe(tmp_path, content), "--output", tmp_path / "run")
    refused(result, sentence)
    assert str(tmp_path / "recipe.yaml") in result[1]


def test_no_such_recipe(shell, tmp_path):
    refused(shell("run", tmp_path / "none.yaml", "--output", tmp_path / "run"), "there is no recipe")


@pytest.mark.parametrize(
    "setting, sentence",
    [
        ("prune.heads", "write it as stage.option=value"),
        ("heads=0.5", "write it as stage.option=value"),
        ("prune.head=0.5", "unknown option 'prune.head'; did you mean 'heads'?"),
        ("prune.heads=half", "prune.heads: input should be a valid number"),
        ("benchmark.sequence_length=500", "benchmark.sequence_length 500 is more than the 140 tokens"),
        (
            "prune.criterion=slimming",
            "prune.criterion slimming needs the coefficients of finetune.slimming, which is 0",
        ),
        ("prune.sequence_length=500", "prune.sequence_length 500 is more than the 140 tokens"),
        ("finetune.targets=ffn_in", "prune.criterion delta scores heads by the updates of finetune.targets query"),
        ("prune.flops_saved=0.99", "flops_saved 0.99 is out of reach: at most"),
        ("prune.semi_structured=2:7", "semi_structured 2:7 does not fit: rows of 32 weights do not divide"),
        ("benchmark.baseline=/nowhere", "there is no folder /nowhere"),
        ("benchmark.provider=cuda", "provider cuda was asked for"),
        ("validate.data=./nowhere", "there is no data folder ./nowhere"),
        ("validate.split=test", "has no test split"),
        ("finetune.rank_pattern={kwery: 3}", "'kwery' matches no target"),
        ("finetune.text=nope", "has no column 'nope'"),
        ("finetune.metric=spearman", "metric spearman is not of classification"),
        ("finetune.task=regression", "regression needs numbers"),
    ],
)
def test_wrong_setting(shell, tmp_path, bert, data, setting, sentence):
    content = {"finetune": {"model": str(bert), "data": str(data)}}
    if setting.startswith("finetune.targets"):
        content["prune"] = {"criterion": "delta"}
    refused(shell("run", recipe(tmp_path, content), "--output", tmp_path / "run", "--set", setting), sentence)


def test_run_into_a_stage_folder(shell, tmp_path, bert, data, bert_tuned):
    path = recipe(tmp_path, {"finetune": {"model": str(bert), "data": str(data)}})
    refused(shell("run", path, "--output", bert_tuned), "is a stage folder; give another folder for the run")


def test_adapters_that_cannot_come_in_or_go_out(shell, bert, bert_tuned, data, tmp_path):
    given = ["--model", bert, "--data", data, "--output", tmp_path / "out"]
    refused(shell("import-peft", data, *given), "is no PEFT adapter: it has no adapter_config.json")
    refused(shell("export-peft", bert_tuned, "--output", tmp_path / "out"), "fine-tune with --sparse 0")
    refused(shell("export-peft", bert, "--output", tmp_path / "out"), "is not a stage folder")
    assert not (tmp_path / "out").exists()


def test_missing_argument(shell):
    refused(shell("prune", "--output", "x"), "Missing argument")


def test_no_onnx_runtime(pruned, tmp_path):
    """In a process where importing it fails, as where it is not installed."""
    code = "import sys; sys.modules['onnxruntime'] = None\nfrom dsee_compress_cli.main import main; main()"
    arguments = ["export", str(pruned), "--output", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "error: ONNX Runtime is not installed; pip install 'dsee-compress[cpu]' (or [gpu] for CUDA)"
    )


def test_a_crash_of_our_own_exits_with_1_and_a_gate_with_3(shell, bert_tuned, tmp_path, monkeypatch):
    from dsee_compress.errors import GateError
    from dsee_compress.pruning import surgery

    def broken(error):
        def remove(model, structure):
            raise error

        return remove

    arguments = ["prune", bert_tuned, "--output", tmp_path / "out", "--retune-epochs", 0]
    monkeypatch.setattr(surgery, "remove", broken(ZeroDivisionError("oh")))
    code, printed = shell(*arguments)
    assert code == 1 and "internal error (ZeroDivisionError): oh" in printed and "Traceback" not in printed
    monkeypatch.setattr(surgery, "remove", broken(GateError("gate 'removal' failed")))
    assert shell(*arguments)[0] == 3


def test_debug_shows_the_traceback(tmp_path):
    command = [sys.executable, "-m", "dsee_compress_cli.main", "inspect", str(tmp_path / "none"), "--debug"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" in done.stderr and "error: there is no folder" in done.stderr


def test_nothing_is_left_by_a_refusal(shell, small, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    shell(*small, "--rank", 33)
    shell(*small, "--max-length", 500)
    assert sorted(tmp_path.rglob("*")) == before
