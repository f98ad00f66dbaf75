"""Mistakes in a model, in data and in the options of training: exit code 2 and one sentence (DESIGN section 10)."""

import json
import shutil

import pytest

from .shell import changed, refused


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
    refused(shell(*changed(small, "--model", folder)), "'albert' is not supported; supported are: bert, camembert, deb")


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
        ("--mixed-precision", "fp16", "mixed_precision fp16 trains on CUDA only"),
        ("--epochs", "many", "Invalid value for '--epochs': Input should be a valid integer"),
        ("--rnak", 3, "No such option: --rnak"),
        ("--targets", "query,query", "targets names one twice: query, query"),
        ("--seed", 2**32, "seed: input should be less than 4294967296"),
        ("--learning-rate", "inf", "learning_rate: input should be a finite number"),
        ("--learning-rate", 1e30, "learning_rate: input should be less than or equal to 1000, got 1e+30"),
        ("--rank-pattern", "query", "rank_pattern: write it as PATTERN=VALUE, not 'query'"),
        ("--rank-pattern", "[=3", "rank_pattern: '[' is no regular expression: unterminated character set"),
        ("--rank-pattern", "query=-1", "rank_pattern.query: input should be greater than or equal to 0, got '-1'"),
        ("--sparse-pattern", "query=few", "sparse_pattern.query: input should be a valid integer"),
        ("--alpha-pattern", "query=0", "alpha_pattern.query: input should be greater than 0"),
        ("--rank-pattern", "kwery=3", "rank_pattern: 'kwery' matches no target; they are called 0.query"),
        ("--rank-pattern", "query=33", "rank 33 is more than a 32 by 32 matrix has"),
        ("--max-length", 2, "max_length 2 leaves no room beside the 2 special tokens of a row"),
        ("--task", "ranking", "'regression' or 'token-classification', got 'ranking'"),
        ("--task", "regression", "has 'bad' in 'label', row 0; regression needs numbers"),
        ("--metric", "recall", "'entity_f1', 'entity_precision' or 'entity_recall', got 'recall'"),
        ("--metric", "pearson", "metric pearson is not of classification, which has accuracy, f1, matthews"),
        ("--positive", "goodd", "has no label 'goodd'; did you mean 'good'?"),
    ],
)
def test_wrong_option(shell, small, option, value, sentence):
    refused(shell(*small, option, value), sentence)


def test_weights_of_another_model(shell, small, copy, bert):
    """Their names fit nowhere: without a word, transformers would start from random weights."""
    from dsee_compress.weights import load_tensors, save_tensors

    folder = copy(bert)
    tensors = load_tensors(folder / "model.safetensors")
    save_tensors({f"other.{name}": t for name, t in tensors.items()}, folder / "model.safetensors")
    refused(shell(*changed(small, "--model", folder)), "they are of another model")


def test_a_classifier_with_other_labels_gets_a_new_head(shell, small, copy, bert):
    from dsee_compress.weights import load_tensors, save_tensors

    folder = copy(bert)
    tensors = load_tensors(folder / "model.safetensors")
    tensors["classifier.weight"], tensors["classifier.bias"] = (tensors["classifier.weight"].repeat(3, 1), None)
    tensors["classifier.bias"] = tensors["classifier.weight"][:, 0].clone()
    save_tensors(tensors, folder / "model.safetensors")
    assert shell(*changed(small, "--model", folder))[0] == 0


def test_a_damaged_tokenizer(shell, small, copy, bert):
    folder = copy(bert)
    (folder / "tokenizer.json").write_text('{"version": "1.0"')
    refused(shell(*changed(small, "--model", folder)), "cannot be loaded")


def test_a_tokenizer_of_another_model(shell, small, copy, bert):
    folder = copy(bert)
    config = json.loads((folder / "config.json").read_text())
    import torch

    from dsee_compress.weights import load_tensors, save_tensors

    tensors = load_tensors(folder / "model.safetensors")
    name = "bert.embeddings.word_embeddings.weight"
    tensors[name] = torch.ones(20, tensors[name].shape[1])
    save_tensors(tensors, folder / "model.safetensors")
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
