"""Adapters in and out against the real PEFT."""

import json
import re

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForSequenceClassification

import dsee_compress
from dsee_compress import architectures
from dsee_compress.adapters import model as adapters
from dsee_compress.adapters import peft
from dsee_compress.configs import FinetuneConfig
from dsee_compress.errors import UserError
from dsee_compress.models import config_of
from dsee_compress.store.manifest import Manifest
from dsee_compress.weights import load_tensors, save_tensors

from ..fixtures import models
from .test_model import EVERY_ROLE, random_ids

CONFIGS = {
    "query and value": lambda path: {"r": 4, "lora_alpha": 8, "target_modules": [path("query"), path("value")]},
    "every Linear, unequal": lambda path: {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": r".*layer\.\d+\.(" + "|".join(path(role) for role in EVERY_ROLE) + ")",
        "rank_pattern": {path("query"): 2, r"layer\.1\." + path("ffn_in"): 6, r"[02]\." + path("ffn_out"): 1},
        "alpha_pattern": {path("value"): 3, r"0\." + path("attention_output"): 5.5},
    },
    "rank-stabilised": lambda path: {"r": 5, "lora_alpha": 7, "target_modules": [path("key")], "use_rslora": True},
    "some layers": lambda path: {
        "r": 3,
        "lora_alpha": 6,
        "target_modules": [path("query"), path("value")],
        "layers_to_transform": [1],
    },
}


def lora(family: str, pretrained, folder, **options):
    """An adapter folder, saved by PEFT, whose update and head are random; and the model that it was saved from."""
    base = AutoModelForSequenceClassification.from_pretrained(pretrained)
    torch.manual_seed(4)
    # PEFT knows of the classifier itself.
    head = {path.rpartition(".")[2] for path in architectures.task_head(base.config)} - {"classifier"}
    config = {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["query", "value"],
        "task_type": "SEQ_CLS",
        "modules_to_save": sorted(head) or None,
        **options,
    }
    model = get_peft_model(base, LoraConfig(**config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.1)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("options", CONFIGS.values(), ids=CONFIGS.keys())
def test_an_imported_adapter_gives_the_logits_of_peft(family, pretrained, data, tmp_path, options):
    linears = architectures.get(config_of(pretrained).model_type).linears
    theirs = lora(family, pretrained, tmp_path / "lora", **options(lambda role: linears[role]))
    folder = dsee_compress.import_peft(
        tmp_path / "lora", model=str(pretrained), data=str(data), output=tmp_path / "in", max_length=64
    )
    ids = random_ids(family)
    expected = theirs(ids).logits
    torch.testing.assert_close(adapters.load(folder)(ids).logits, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(dsee_compress.load(folder)(ids).logits, expected, atol=1e-5, rtol=0)
    trained = sum(p.numel() for name, p in theirs.named_parameters() if "lora_" in name)
    assert Manifest.read(folder).metrics.trainable_parameters == trained

    back = dsee_compress.export_peft(folder, output=tmp_path / "back")
    base = AutoModelForSequenceClassification.from_pretrained(pretrained)
    torch.testing.assert_close(PeftModel.from_pretrained(base, back).eval()(ids).logits, expected, atol=1e-5, rtol=0)


def test_an_imported_adapter_goes_on_as_a_finetuned_one(bert, data, tmp_path):
    lora("bert", bert, tmp_path / "lora")
    again = {"model": str(bert), "data": str(data), "output": tmp_path / "in"}
    folder = dsee_compress.import_peft(tmp_path / "lora", **again)
    stamp = (folder / "dsee.json").stat().st_mtime_ns
    dsee_compress.import_peft(tmp_path / "lora", **again)
    assert (folder / "dsee.json").stat().st_mtime_ns == stamp, "the same again is up to date"
    pruned = dsee_compress.prune(folder, output=tmp_path / "prune", heads=0.25, neurons=0.2, retune_epochs=1)
    assert sum(Manifest.read(pruned).structure.head_counts) < models.LAYERS * models.HEADS
    lora("bert", bert, tmp_path / "lora", r=2)
    with pytest.raises(UserError, match=r"was made otherwise .*rank was 4 and is now 2"):
        dsee_compress.import_peft(tmp_path / "lora", **again)


def test_a_trained_adapter_without_sparse_entries_gives_the_same_logits_in_peft(family, pretrained, data, tmp_path):
    options = {"targets": "query,value,ffn_out", "rank_pattern": "1.value=2,2.query=0", "alpha_pattern": "ffn_out=3"}
    tuned = dsee_compress.finetune(
        model=str(pretrained),
        data=str(data),
        output=tmp_path / "tuned",
        sparse=0,
        epochs=2,
        learning_rate=1e-2,
        **options,
    )
    written = dsee_compress.export_peft(tuned, output=tmp_path / "peft")
    assert {path.name for path in written.iterdir()} == {peft.CONFIG, peft.WEIGHTS}
    base = AutoModelForSequenceClassification.from_pretrained(pretrained)
    ids = random_ids(family)
    untrained = base(ids).logits
    theirs = PeftModel.from_pretrained(base, written).eval()
    torch.testing.assert_close(theirs(ids).logits, adapters.load(tuned)(ids).logits, atol=1e-5, rtol=0)
    assert not torch.allclose(theirs(ids).logits, untrained, atol=1e-2)
    with pytest.raises(UserError, match="already exists"):
        dsee_compress.export_peft(tuned, output=written)
    dsee_compress.export_peft(tuned, output=written, overwrite=True)
    with pytest.raises(UserError, match="already exists"):
        dsee_compress.export_peft(tuned, output=tuned, overwrite=True)


def test_a_packed_projection_has_one_update_in_peft_alone(data, tmp_path):
    base = models.write_model("modernbert", tmp_path / "pretrained")
    lora("modernbert", base, tmp_path / "lora", target_modules=["Wqkv"])
    sentence = "has an update on 'model.layers.0.attn.Wqkv', which is none of the Linears of a modernbert model"
    refused(base, data, tmp_path, sentence)
    options = {"sparse": 0, "epochs": 1, "output": tmp_path / "tuned"}
    tuned = dsee_compress.finetune(model=str(base), data=str(data), **options)
    with pytest.raises(UserError, match=r"PEFT keeps one update for attn\.Wqkv of a modernbert model"):
        dsee_compress.export_peft(tuned, output=tmp_path / "peft")


def test_sparse_entries_cannot_leave(bert_tuned, tmp_path):
    with pytest.raises(UserError, match="5 sparse entries S2, which LoRA cannot express; fine-tune with --sparse 0"):
        dsee_compress.export_peft(bert_tuned, output=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def changed(folder, **options) -> None:
    path = folder / peft.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | options))


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"peft_type": "IA3"}, "is of type 'IA3'; LORA alone"),
        ({"task_type": "CAUSAL_LM"}, "is for the task 'CAUSAL_LM'"),
        ({"bias": "lora_only"}, "trains biases (bias='lora_only')"),
        ({"use_dora": True}, "sets use_dora=True, which a DSEE update cannot express"),
        ({"layer_replication": [[0, 2]]}, "sets layer_replication=[[0, 2]]"),
        ({"something_new": "on"}, "sets something_new='on'"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa', which changes the base weights"),
        ({"lora_alpha": 0}, "has a lora_alpha that is not above 0"),
        ({"alpha_pattern": {"que[ry": 4}}, "alpha_pattern: 'que[ry' is no regular expression"),
    ],
)
def test_what_a_dsee_update_cannot_express(bert, data, tmp_path, options, sentence):
    lora("bert", bert, tmp_path / "lora")
    changed(tmp_path / "lora", **options)
    refused(bert, data, tmp_path, sentence)


def refused(model, data, tmp_path, sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        dsee_compress.import_peft(tmp_path / "lora", model=str(model), data=str(data), output=tmp_path / "in")
    assert not (tmp_path / "in").exists()


def test_real_dora_and_bias_are_refused(bert, data, tmp_path):
    lora("bert", bert, tmp_path / "lora", use_dora=True)
    refused(bert, data, tmp_path, "sets use_dora=True")
    lora("bert", bert, tmp_path / "lora", bias="all")
    refused(bert, data, tmp_path, "trains biases (bias='all')")


def test_an_update_where_no_linear_is_known(bert, data, tmp_path):
    lora("bert", bert, tmp_path / "lora", target_modules=["query", "word_embeddings"])
    refused(
        bert, data, tmp_path, "word_embeddings.lora_embedding_A', which is neither an update of a Linear nor of the"
    )
    lora("bert", bert, tmp_path / "lora", target_modules=["query", "pooler.dense"], modules_to_save=["classifier"])
    refused(bert, data, tmp_path, "has an update on 'bert.pooler.dense', which is none of the Linears of a bert model")


def test_a_module_saved_beside_the_head(bert, data, tmp_path):
    lora("bert", bert, tmp_path / "lora", modules_to_save=["classifier", "word_embeddings"])
    refused(bert, data, tmp_path, "holds 'bert.embeddings.word_embeddings.weight', which is neither")


def test_damaged_pickled_and_missing_adapters(bert, data, tmp_path):
    (tmp_path / "lora").mkdir()
    refused(bert, data, tmp_path, "is no PEFT adapter: it has no adapter_config.json")
    lora("bert", bert, tmp_path / "lora")
    weights = tmp_path / "lora" / peft.WEIGHTS
    tensors = load_tensors(weights)
    name = next(name for name in tensors if "lora_B" in name)
    save_tensors({other: tensor for other, tensor in tensors.items() if other != name}, weights)
    refused(bert, data, tmp_path, f"is damaged: it lacks {name.removeprefix('base_model.model.')!r}")
    save_tensors({**tensors, name: tensors[name][:5].clone()}, weights)
    refused(bert, data, tmp_path, "size mismatch")
    weights.write_bytes(weights.read_bytes()[:100])
    refused(bert, data, tmp_path, "is damaged")
    weights.rename(weights.with_name("adapter_model.bin"))
    refused(bert, data, tmp_path, "adapter_model.bin is pickled and is not read")
    (tmp_path / "lora" / peft.CONFIG).write_text("[1]")
    refused(bert, data, tmp_path, "adapter_config.json is damaged")


def test_an_adapter_of_another_family_or_another_number_of_labels(bert, pretrained_folders, data, tmp_path):
    lora("roberta", pretrained_folders["roberta"], tmp_path / "lora")
    refused(bert, data, tmp_path, "which is none of the Linears of a bert model")
    lora("bert", bert, tmp_path / "lora")
    weights = tmp_path / "lora" / peft.WEIGHTS
    tensors = load_tensors(weights)
    for name in ("weight", "bias"):
        tensors[f"base_model.model.classifier.{name}"] = torch.cat([tensors[f"base_model.model.classifier.{name}"]] * 2)
    save_tensors(tensors, weights)
    refused(bert, data, tmp_path, "size mismatch for classifier")


def test_a_head_that_nobody_holds(bert, data, tmp_path):
    """A base without a head, and an adapter that did not save the one it was trained with."""
    lora("bert", bert, tmp_path / "lora", task_type=None, modules_to_save=None)
    folder = dsee_compress.import_peft(tmp_path / "lora", model=str(bert), data=str(data), output=tmp_path / "whole")
    ids = random_ids("bert")
    theirs = PeftModel.from_pretrained(AutoModelForSequenceClassification.from_pretrained(bert), tmp_path / "lora")
    torch.testing.assert_close(adapters.load(folder)(ids).logits, theirs.eval()(ids).logits, atol=1e-5, rtol=0)
    headless = tmp_path / "headless"
    models.write_model("bert", headless)
    tensors = load_tensors(headless / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier")}
    save_tensors(kept, headless / "model.safetensors")
    refused(headless, data, tmp_path, "holds 'classifier.weight' of the task head")


def test_half_precision_adapters_are_read(bert, tmp_path, data):
    lora("bert", bert, tmp_path / "lora")
    weights = tmp_path / "lora" / peft.WEIGHTS
    save_tensors({name: tensor.half() for name, tensor in load_tensors(weights).items()}, weights)
    folder = dsee_compress.import_peft(tmp_path / "lora", model=str(bert), data=str(data), output=tmp_path / "in")
    assert {tensor.dtype for tensor in load_tensors(folder / "adapter.safetensors").values()} == {
        torch.float32,
        torch.int64,
    }


def test_the_core_reads_and_writes_without_peft():
    import subprocess
    import sys

    code = "import sys; sys.modules['peft'] = None; import dsee_compress.stages.peft"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_patterns_say_each_value_again():
    config = FinetuneConfig(model="x", data="x", sparse=0, targets=["query", "key"])
    for values in (
        {(0, "query"): 4, (1, "query"): 4, (0, "key"): 2, (1, "key"): 3, (2, "query"): 4, (2, "key"): 2},
        {(index, role): index + 1 for index in range(3) for role in ("query", "key")},
    ):
        rank, pattern = peft._patterns(values)
        update = config.model_copy(update={"rank": rank, "rank_pattern": pattern})
        assert {
            place: shape.rank for place, shape in adapters.shapes(update, models.build("bert").config).items()
        } == values
