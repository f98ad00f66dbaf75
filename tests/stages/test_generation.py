"""Decoders on the whole way: from a pretrained folder to texts, by the stages themselves."""

import json
from pathlib import Path

import pytest
import torch
from dsee_compress_cli import main as cli
from transformers import AutoTokenizer

import dsee_compress
from dsee_compress import architectures
from dsee_compress.adapters import model as adapters
from dsee_compress.store.manifest import Manifest
from dsee_compress.weights import load_tensors

from ..fixtures import decoder_stages, decoders, models


@pytest.fixture(scope="module", params=decoders.FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def tuned(family, tuned_decoders) -> Path:
    return tuned_decoders(family)


@pytest.fixture(scope="module")
def pruned(family, pruned_decoders) -> Path:
    return pruned_decoders(family)


def refuse(capsys, *arguments: object) -> str:
    assert cli._run([*map(str, arguments)], debug=False) == 2
    printed = capsys.readouterr().err.splitlines()
    assert [line for line in printed if line.startswith("error: ")] == printed[-1:]
    return printed[-1]


def test_updates_alone_are_trained_and_saved(tuned):
    manifest = Manifest.read(tuned)
    assert manifest.task.name == "generation" and manifest.metrics.task_head_parameters == 0
    saved = load_tensors(tuned / "adapter.safetensors")
    assert {name.rpartition(".")[2] for name in saved} == {"up", "down", "values", "rows", "columns"}
    base = dsee_compress.load(tuned.parent / "finetune").get_input_embeddings().weight
    started = load_tensors(tuned.parent / "pretrained" / "model.safetensors")
    assert any(torch.equal(base, tensor) for tensor in started.values() if tensor.shape == base.shape)


def test_training_makes_the_targets_likely(tuned, meanings):
    """Perplexity falls far below that of the model before, which knows nothing of the task."""
    untouched = dsee_compress.finetune(
        model=str(tuned.parent / "pretrained"),
        data=str(meanings),
        task="generation",
        output=tuned.parent / "untouched",
        **decoder_stages.FINETUNE | {"epochs": 1, "learning_rate": 1e-9},
    )
    before, after = (Manifest.read(folder).metrics.validation["perplexity"] for folder in (untouched, tuned))
    assert after < before / 4


def test_layers_keep_their_own_numbers_of_heads_and_reload(pruned):
    manifest = Manifest.read(pruned)
    assert manifest.metrics.flops.saved == pytest.approx(0.3, abs=0.03)
    model = dsee_compress.load(pruned)
    assert [layer.heads for layer in architectures.layers(model)] == manifest.structure.head_counts
    assert [layer.neurons for layer in architectures.layers(model)] == manifest.structure.neuron_counts
    assert model.get_input_embeddings().weight.numel() > 0
    if manifest.architecture == "llama":  # two query heads stay with each key head
        layer = architectures.layers(model)[0]
        assert architectures.rows(layer.linear("query")) == 2 * architectures.rows(layer.linear("key"))


def test_validation_scores_texts_against_all_references(tuned, pruned):
    dsee_compress.validate(pruned, max_compression_drop=0.95)
    result = json.loads((pruned / "validation.json").read_text())
    assert result["metric"] == "bleu" and result["examples"] == 24
    assert set(result["accuracy"]) == {"dense_finetuned", "pruned"}
    assert set(result["other_metrics"]["pruned"]) == {"chrf", "ter", "rouge_l", "nist", "perplexity"}
    for name in ("dense_finetuned", "pruned"):
        figure = result["accuracy"][name]
        assert figure["ci95"][0] <= figure["value"] <= figure["ci95"][1]
        assert len(result["predictions"][name]) == 24
    source = dsee_compress.load(pruned)
    tokenizer = AutoTokenizer.from_pretrained(pruned)
    row = json.loads((Path(Manifest.read(pruned).task.data) / "validation.jsonl").read_text().splitlines()[3])
    ids = tokenizer(f"{row['source']}\n", return_tensors="pt")
    written = source.generate(**ids, do_sample=False, max_new_tokens=64, pad_token_id=tokenizer.pad_token_id)
    text = tokenizer.decode(written[0, ids["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    assert result["predictions"]["pruned"][3] == text


def test_a_merged_adapter_writes_what_the_adapter_writes(tuned):
    tokenizer = AutoTokenizer.from_pretrained(tuned)
    ids = tokenizer("name : Aromi | food : Indian | area : harbour\n", return_tensors="pt")
    options = {"do_sample": False, "max_new_tokens": 20, "pad_token_id": tokenizer.pad_token_id}
    apart, merged = adapters.load(tuned), dsee_compress.load(tuned)
    assert torch.equal(apart.generate(**ids, **options), merged.generate(**ids, **options))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--task", "classification"], "gpt2, which classification does not fit; it takes bert"),
        (["--task", "generation", "--text", "meaning"], "has no column 'meaning'"),
        (["--task", "generation", "--label", "text"], "has no target column 'text'"),
        (["--task", "generation", "--prompt", "say it"], "has to hold {source} once"),
        (["--task", "generation", "--max-length", "12"], "leaves no room for a target in max_length 12"),
        (["--task", "generation", "--max-length", "500"], "max_length 500 is more than the 140 tokens"),
        (["--task", "generation", "--metric", "accuracy"], "metric accuracy is not of generation"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, words, meanings, tmp_path, capsys):
    base = models.write_gpt2(tmp_path / "gpt2")
    said = refuse(capsys, "finetune", "--model", base, "--data", meanings, "--output", tmp_path / "output", *arguments)
    assert words in said
    assert not (tmp_path / "output").exists()


def test_an_encoder_does_not_write(bert, meanings, tmp_path, capsys):
    options = ["--model", bert, "--data", meanings, "--output", tmp_path / "output", "--task", "generation"]
    assert "bert, which generation does not fit; it takes gpt2, llama" in refuse(capsys, "finetune", *options)


def test_an_adapter_of_a_decoder_is_not_written_for_peft(tuned, tmp_path, capsys):
    assert "adapters of classifiers alone" in refuse(capsys, "export-peft", tuned, "--output", tmp_path / "lora")
    assert not (tmp_path / "lora").exists()
