"""A model folder whose parts do not fit: found by `run --dry-run`, before anything is trained."""

import json

import pytest
import torch
import yaml

from dsee_compress.weights import load_tensors, save_tensors

from .shell import by_line, refused


@pytest.fixture
def dry_run(shell, data, tmp_path):
    """The command for a model folder and options of fine-tuning and export."""

    def start(model, export=None, **finetune):
        recipe = tmp_path / "recipe.yaml"
        content = {"finetune": {"model": str(model), "data": str(data), "max_length": 32} | finetune}
        recipe.write_text(yaml.safe_dump(content | {"export": export or {"precision": ["fp32"]}}))
        return shell("run", recipe, "--output", tmp_path / "run", "--dry-run")

    return start


def change(path, **entries):
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def without_padding(folder):
    change(folder / "config.json", pad_token_id=None)
    change(folder / "tokenizer_config.json", pad_token=None)
    if (folder / "special_tokens_map.json").exists():  # transformers 5 keeps it with the rest
        change(folder / "special_tokens_map.json", pad_token=None)


def not_finite(folder):
    tensors = load_tensors(folder / "model.safetensors")
    tensors["bert.embeddings.LayerNorm.weight"][3] = float("inf")
    save_tensors(tensors, folder / "model.safetensors")


def vocabulary_of_another_model(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["story"] = 30521
    (folder / "tokenizer.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "spoil, sentence",
    [
        (lambda folder: change(folder / "config.json", num_hidden_layers=2), "does not describe"),
        (
            lambda folder: change(folder / "config.json", position_embedding_type="relative_key"),
            "'relative_key' positions",
        ),
        (lambda folder: change(folder / "config.json", num_hidden_layers=10**9), "describes 1000000000 layers"),
        (
            lambda folder: change(folder / "config.json", vocab_size="500"),
            by_line("has '500' as vocab_size in its config", "'vocab_size' expected int, got str (value: '500')"),
        ),
        (lambda folder: change(folder / "config.json", hidden_size=-32), "has -32 as hidden_size in its config"),
        (
            lambda folder: change(folder / "config.json", pad_token_id="0"),
            by_line("has '0' as pad_token_id in its config", "'pad_token_id' with value '0' doesn't match any type"),
        ),
        (
            lambda folder: change(folder / "config.json", num_attention_heads=5),
            "cannot be loaded: The hidden size (32)",
        ),
        (lambda folder: change(folder / "tokenizer_config.json", model_max_length="all"), "'all' as model_max_length"),
        (lambda folder: change(folder / "tokenizer_config.json", auto_map={}), "(auto_map), which is not run"),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "it is a PEFT adapter, not a model"),
        (not_finite, "has NaN or infinity in 'bert.embeddings.LayerNorm.weight' (1 of 32 values)"),
        (without_padding, "has no padding token"),
        (vocabulary_of_another_model, "has 'story' as token 30521, and the model knows 500 tokens"),
    ],
)
def test_a_model_that_does_not_fit(dry_run, copy, bert, spoil, sentence):
    folder = copy(bert)
    spoil(folder)
    refused(dry_run(folder), sentence)


def test_what_is_done_otherwise_is_told(dry_run, copy, bert, tmp_path):
    folder = copy(bert)
    tensors = load_tensors(folder / "model.safetensors") | {"cls.predictions.bias": torch.zeros(500)}
    save_tensors(tensors, folder / "model.safetensors")
    code, printed = dry_run(folder)
    assert code == 0, printed
    assert "left out what stands on top of the encoder: cls.predictions.bias" in printed
    assert not (tmp_path / "run").exists()


def test_a_vocabulary_that_cannot_be_trimmed(dry_run, copy, bert, data):
    folder = copy(bert)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["post_processor"] = {"type": "Sequence", "processors": []}
    content["model"] = {"type": "WordLevel", "vocab": content["model"]["vocab"], "unk_token": "[UNK]"}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    change(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    refused(
        dry_run(folder, {"precision": ["fp32"], "trim_vocabulary": str(data)}), "the tokenizer is a WordLevel model"
    )
