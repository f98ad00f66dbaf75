"""A decoder with a trimmed vocabulary: it reads every prompt, and scores and writes the kept tokens alone."""

import json
from pathlib import Path

import onnx
import pytest
import torch

import dsee_compress
from dsee_compress.errors import GateError
from dsee_compress.evaluation import shares
from dsee_compress.evaluation.generator import OnnxGenerator
from dsee_compress.exporting import vocabulary
from dsee_compress.models import config_of
from dsee_compress.stages import common

from ..fixtures import decoders, models

PRECISIONS = ["fp32", "int8", "int4"]
LENIENT = {"max_drop": 0.9, "max_compression_drop": 0.95, "max_new_tokens": 12}


@pytest.fixture(scope="module", params=decoders.FAMILIES)
def root(request, meanings, pruned_decoders, tmp_path_factory) -> Path:
    """The export of a pruned decoder, and one that keeps the tokens of half of the data."""
    root, pruned = tmp_path_factory.mktemp(request.param), pruned_decoders(request.param)
    rows = [json.loads(line) for line in (meanings / "train.jsonl").read_text().splitlines()]
    few = [row for row in rows if "French" not in row["source"]]
    assert 0 < len(few) < len(rows)
    (root / "prune").symlink_to(pruned)
    (root / "fewer").mkdir()
    models.write_jsonl(root / "fewer" / "train.jsonl", few)
    dsee_compress.export(pruned, output=root / "whole", precision=PRECISIONS)
    dsee_compress.export(pruned, output=root / "less", precision=PRECISIONS, trim_vocabulary=str(root / "fewer"))
    return root


def kept_tokens(root: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Id of each kept token before and after."""
    before, after = (common.tokenizer_of(root / name).get_vocab() for name in ("whole", "less"))
    assert after.keys() < before.keys() and sorted(after.values()) == list(range(len(after)))
    return {token: before[token] for token in after}, after


def test_the_kept_tokens_are_scored_as_before(root):
    old, new = kept_tokens(root)
    sources = [json.loads(line)["source"] for line in (root / "fewer" / "train.jsonl").read_text().splitlines()]
    tokenizers = [common.tokenizer_of(root / name) for name in ("whole", "less")]
    order = sorted(new, key=new.__getitem__)
    with OnnxGenerator(root / "whole" / "model.onnx") as whole, OnnxGenerator(root / "less" / "model.onnx") as less:
        for source in sources[:8]:
            wanted, found = (
                model.forward(torch.tensor([tokenizer(source)["input_ids"]])).logits
                for model, tokenizer in zip((whole, less), tokenizers, strict=True)
            )
            torch.testing.assert_close(found, wanted[..., [old[token] for token in order]], atol=1e-4, rtol=0)


def test_what_is_written_in_kept_tokens_is_written_again(root):
    _, new = kept_tokens(root)
    tokenizer = common.tokenizer_of(root / "whole")
    sources = [json.loads(line)["source"] for line in (root / "fewer" / "train.jsonl").read_text().splitlines()]
    sources = list(dict.fromkeys(sources))
    before, after = (
        dsee_compress.generate(root / name, sources, precision="fp32", max_new_tokens=12) for name in ("whole", "less")
    )
    same = [set(tokenizer.tokenize(text)) <= new.keys() for text in before]
    assert sum(same) > 4
    assert [text for text, kept in zip(after, same, strict=True) if kept] == [
        text for text, kept in zip(before, same, strict=True) if kept
    ]
    assert all(dsee_compress.generate(root / "less", ["name : 中文 🙂 | food : French"], precision="int8"))


def test_configs_name_the_kept_tokens_by_their_new_ids(root):
    config, tokenizer = config_of(root / "less"), common.tokenizer_of(root / "less")
    generation = json.loads((root / "less" / "generation_config.json").read_text())
    assert config.vocab_size == len(tokenizer)
    assert generation["eos_token_id"] == config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer.eos_token == common.tokenizer_of(root / "whole").eos_token


def test_the_saved_weight_is_that_of_embedding_and_head(root):
    _, new = kept_tokens(root)
    known = config_of(root / "whole").vocab_size
    for name in ("model.onnx", "model_int8.onnx", "model_int4.onnx"):
        sizes = [
            sum(len(entry.raw_data) for entry in onnx.load(root / folder / name).graph.initializer) / 1e6
            for folder in ("whole", "less")
        ]
        share = (known - len(new)) / len(new)
        said = shares.vocabulary_megabytes(root / "less" / name, len(new)) * share
        assert said == pytest.approx(sizes[0] - sizes[1], rel=0.05, abs=1e-4)


def test_validation_holds_it_to_the_model_before_and_counts_prompts(root, meanings):
    dsee_compress.validate(root / "less", data=str(meanings), **LENIENT)
    result = json.loads((root / "less" / "validation.json").read_text())
    rows = [json.loads(line)["source"] for line in (meanings / "validation.jsonl").read_text().splitlines()]
    assert result["examples"] == len(rows)
    assert result["examples"] - result["examples_alike"] == sum("French" in source for source in rows) > 0
    compared = {(gate["candidate"], gate["reference"]) for gate in result["gates"] if gate["gate"] == "precision"}
    assert compared == {(f"onnx_{name}", "pruned") for name in PRECISIONS}


def test_a_bundle_writes_the_same(root, tmp_path):
    from dsee_compress.bundling import predict

    folder = dsee_compress.bundle(root / "less", output=tmp_path / "bundle", precision="fp32", max_new_tokens=12)
    sources = ["name : Aromi | food : French", "name : The Mill | area : riverside"]
    model = predict.load(folder)
    found = [model.answer([model.encode((source,))])[0]["text"] for source in sources]
    assert found == dsee_compress.generate(root / "less", sources, precision="fp32", max_new_tokens=12)


def test_rows_of_other_tokens_are_caught(root, tmp_path, monkeypatch):
    cut = vocabulary._cut_embedding
    monkeypatch.setattr(vocabulary, "_cut_embedding", lambda model, ids: cut(model, dict(reversed(ids.items()))))
    with pytest.raises(GateError, match="gate 'vocabulary' failed: logits of the kept tokens before and after"):
        dsee_compress.export(root / "prune", output=tmp_path / "export", trim_vocabulary=str(root / "fewer"))
    assert not (tmp_path / "export").exists()
