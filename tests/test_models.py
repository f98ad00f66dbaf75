"""Models of unequal layers in stage folders."""

import json
import shutil

import pytest
import torch

import dsee_compress
from dsee_compress.errors import UserError
from dsee_compress.weights import load_tensors

from .fixtures import decoder_stages


def test_loading_is_strict_about_the_described_structure(bert_pruned, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(bert_pruned, copy)
    manifest = json.loads((copy / "dsee.json").read_text())
    manifest["structure"]["neurons"][0] = manifest["structure"]["neurons"][0][:-1]
    (copy / "dsee.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="does not fit the model that its folder describes"):
        dsee_compress.load(copy)


def test_reload_is_bit_equal(pruned):
    first, second = dsee_compress.load(pruned), dsee_compress.load(pruned)
    saved = load_tensors(pruned / "model.safetensors")
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, saved[name]) and torch.equal(tensor, second.state_dict()[name])


def test_what_is_tied_is_tied_again(tmp_path):
    model = dsee_compress.load(decoder_stages.write_prune("gpt2", tmp_path / "prune"))
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


def test_nothing_is_pickled(bert_pruned, bert_tuned, bert_exported):
    for folder in (bert_pruned, bert_tuned, bert_exported):
        assert not {path.suffix for path in folder.iterdir()} & {".bin", ".pt", ".pth", ".pkl"}
