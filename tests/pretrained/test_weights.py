"""What a pretrained folder may hold: weights that fit its config, in one file or several, and no code of its own."""

import ast
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForMaskedLM, BertForPreTraining

from dsee_compress import loading, pretrained
from dsee_compress.errors import UserError
from dsee_compress.models import config_of
from dsee_compress.stages import common
from dsee_compress.tasks import Spec

from ..fixtures import models

ROOT = Path(loading.__file__).parents[1]
QUERY = "bert.encoder.layer.1.attention.self.query.weight"
TASK = Spec(data="", text=["text"], label="label", labels=["bad", "good"], max_length=32)


@pytest.fixture
def folder(bert, tmp_path) -> Path:
    return Path(shutil.copytree(bert, tmp_path / "model"))


def examine(folder: Path, task: str = "classification", **options) -> pretrained.Examined:
    return pretrained.examine(pretrained.locate(str(folder)), task, 32, **options)


def refused(folder: Path, sentence: str, task: str = "classification") -> None:
    with pytest.raises(UserError) as error:
        examine(folder, task)
    assert sentence in str(error.value)


def change(path: Path, **entries) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def edit(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({name: t.contiguous() for name, t in change(tensors).items()}, folder / "model.safetensors")


def test_a_layer_more_than_the_config_has(folder):
    change(folder / "config.json", num_hidden_layers=2)
    refused(folder, "hold 16 tensors that its config.json does not describe, 'bert.encoder.layer.2.attention.output")


def test_a_layer_more_where_the_names_have_no_prefix(folder):
    AutoModel.from_pretrained(folder).save_pretrained(folder)
    assert examine(folder).notes == []
    change(folder / "config.json", num_hidden_layers=2)
    refused(folder, "hold 16 tensors that its config.json does not describe")


def test_a_layer_less_than_the_config_has(folder):
    change(folder / "config.json", num_hidden_layers=4)
    refused(folder, "lack 16 tensors that its config.json describes, 'bert.encoder.layer.3.")


def test_a_projection_of_the_embeddings_that_the_config_leaves_out(pretrained_folders, tmp_path):
    """ELECTRA has it only where its embeddings are narrower or wider than its layers."""
    folder = Path(shutil.copytree(pretrained_folders["electra"], tmp_path / "model"))
    change(folder / "config.json", embedding_size=32)

    def narrow(tensors):
        return {name: t[..., :32] if "embeddings." in name and t.shape[-1] == 64 else t for name, t in tensors.items()}

    edit(folder, narrow)
    refused(folder, "'electra.embeddings_project.bias' among them")


def test_another_width(folder):
    change(folder / "config.json", intermediate_size=48)
    refused(folder, "have 'bert.encoder.layer.0.intermediate.dense.bias' as (40,), and its config.json describes (48,)")


def test_a_vocabulary_of_another_size(folder):
    change(folder / "config.json", vocab_size=600)
    refused(folder, "'bert.embeddings.word_embeddings.weight' as (500, 32), and its config.json describes (600, 32)")


@pytest.mark.parametrize("family", models.FAMILIES)
def test_heads_of_the_pretraining_are_left_out_and_told(pretrained_folders, tmp_path, family):
    folder = Path(shutil.copytree(pretrained_folders[family], tmp_path / "model"))
    AutoModelForMaskedLM.from_pretrained(folder).save_pretrained(folder)
    (note,) = examine(folder).notes
    assert "left out what stands on top of the encoder: " in note
    assert "layer" not in note.partition(": left out")[2].lower().replace("layernorm", "").replace("layer_norm", "")


def test_a_checkpoint_as_google_wrote_it(bert, folder):
    """Heads of the pretraining, a buffer of positions, and the names that layer normalisation had in TensorFlow."""
    BertForPreTraining.from_pretrained(bert).save_pretrained(folder)

    def old(tensors):
        names = {name: name.replace("LayerNorm.weight", "LayerNorm.gamma") for name in tensors}
        names = {name: new.replace("LayerNorm.bias", "LayerNorm.beta") for name, new in names.items()}
        return {new: tensors[name] for name, new in names.items()} | {
            "bert.embeddings.position_ids": torch.arange(140)[None]
        }

    edit(folder, old)
    model, _ = pretrained.load(str(folder), TASK, seed=0)
    wanted, _ = pretrained.load(str(bert), TASK, seed=0)
    torch.testing.assert_close(model.bert.encoder.state_dict(), wanted.bert.encoder.state_dict(), rtol=0, atol=0)
    assert "cls.predictions.bias, cls.predictions.transform.LayerNorm.bias, " in examine(folder).notes[0]


@pytest.mark.parametrize("value, dtype", [(float("nan"), None), (float("-inf"), None), (float("inf"), torch.float16)])
def test_a_value_that_is_not_finite(folder, value, dtype):
    def spoil(tensors):
        tensors[QUERY][0, 0] = value
        return {name: tensor.to(dtype) for name, tensor in tensors.items()} if dtype else tensors

    edit(folder, spoil)
    refused(folder, f"has NaN or infinity in {QUERY!r} (1 of 1024 values)")


def test_what_is_left_out_may_hold_anything(folder):
    edit(folder, lambda tensors: tensors | {"cls.predictions.bias": torch.full((500,), float("nan"))})
    assert "cls.predictions.bias" in examine(folder).notes[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_fp32(bert, folder, dtype):
    edit(folder, lambda tensors: {name: tensor.to(dtype) for name, tensor in tensors.items()})
    model, _ = pretrained.load(str(folder), TASK, seed=0)
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
    wanted = load_file(bert / "model.safetensors")[QUERY].to(dtype).float()
    torch.testing.assert_close(model.state_dict()[QUERY], wanted, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_quantised_weights(folder, dtype):
    edit(folder, lambda tensors: tensors | {QUERY: tensors[QUERY].to(dtype)})
    refused(folder, "a quantised type; give the weights before quantising")


def test_a_config_that_says_quantised(folder):
    change(folder / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    refused(folder, "is quantised (quantization_config); give the weights before quantising")


@pytest.fixture
def parts(folder) -> Path:
    """The same model with its weights in several files."""
    (folder / "model.safetensors").unlink()
    models.build("bert").save_pretrained(folder, max_shard_size="50KB")
    return folder


def test_weights_in_parts(bert, parts):
    model, _ = pretrained.load(str(parts), TASK, seed=0)
    wanted, _ = pretrained.load(str(bert), TASK, seed=0)
    torch.testing.assert_close(model.state_dict(), wanted.state_dict(), rtol=0, atol=0)


def test_every_part_counts_in_the_fingerprint(parts):
    before = pretrained.fingerprint(str(parts), None)
    part = sorted(parts.glob("model-*.safetensors"))[-1]
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content)
    assert pretrained.fingerprint(str(parts), None) != before


def test_the_sha256_of_one_file_is_not_that_of_several(parts):
    with pytest.raises(UserError, match=r"model_sha256 is of one file, and the weights in .* are in 4 parts"):
        pretrained.fingerprint(str(parts), "0" * 64)


@pytest.mark.parametrize("name", ["../weights.safetensors", "/etc/passwd", "sub/model.safetensors", "model.bin", ""])
def test_an_index_that_names_what_is_no_part(parts, name):
    index = parts / "model.safetensors.index.json"
    change(index, weight_map=json.loads(index.read_text())["weight_map"] | {"classifier.bias": name})
    refused(parts, f"names {name!r}, which is no safetensors file beside it")


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": 1}}', "[" * 9999]
)
def test_a_damaged_index(parts, text):
    (parts / "model.safetensors.index.json").write_text(text)
    refused(parts, "model.safetensors.index.json is damaged")


def test_a_part_that_is_gone_or_cut(parts):
    first, second, *_ = sorted(parts.glob("model-*.safetensors"))
    first.write_bytes(first.read_bytes()[:-8])
    refused(parts, f"{first.name} is damaged")
    second.unlink()
    refused(parts, f"{second.name} is missing, and model.safetensors.index.json names it")


def test_an_index_of_other_parts(parts):
    index = parts / "model.safetensors.index.json"
    names = json.loads(index.read_text())["weight_map"]
    change(index, weight_map=names | {"classifier.bias": names["bert.embeddings.word_embeddings.weight"]})
    refused(parts, "differ in 'classifier.bias'")


def test_a_decoder_with_a_layer_more(tmp_path):
    folder = models.write_gpt2(tmp_path / "gpt2")
    assert examine(folder, "generation").notes == []
    change(folder / "config.json", n_layer=2)
    refused(folder, "'transformer.h.2.attn.c_attn.", "generation")


def test_an_adapter(folder):
    change_to = {"peft_type": "LORA", "base_model_name_or_path": "someone/elses"}
    (folder / "adapter_config.json").write_text(json.dumps(change_to))
    with pytest.raises(UserError, match=r"it is a PEFT adapter, not a model; .* `dsee-compress import-peft`"):
        pretrained.locate(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match="it is a PEFT adapter"):
        pretrained.locate(str(folder))


def test_a_config_without_a_model_type(tmp_path, bert):
    """transformers would take it from the name of the folder."""
    folder = Path(shutil.copytree(bert, tmp_path / "my-roberta"))
    config = json.loads((folder / "config.json").read_text())
    del config["model_type"]
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder, "has no readable config: config.json has no model_type")


CODE = """open({ran!r}, "w").close()
from transformers import BertConfig, BertTokenizerFast

class Config(BertConfig):
    pass

class Tokenizer(BertTokenizerFast):
    pass
"""


@pytest.fixture
def ran(folder, tmp_path, monkeypatch) -> Path:
    """A file that the folder's Python writes when it runs."""
    (folder / "own.py").write_text(CODE.format(ran=str(tmp_path / "ran")))
    monkeypatch.setattr("builtins.input", lambda prompt: pytest.fail("asked on standard input"))
    return tmp_path / "ran"


def name_code(folder: Path, file: str) -> None:
    if file == "config.json":
        change(folder / file, auto_map={"AutoConfig": "own.Config", "AutoModel": "own.Model"})
    else:
        change(folder / file, auto_map={"AutoTokenizer": ["own.Tokenizer"] * 2}, tokenizer_class="Tokenizer")


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_python_of_a_folder_does_not_run_unasked(folder, ran, file):
    name_code(folder, file)
    refused(folder, f"{file} names Python code of its own (auto_map), which is not run; ")
    assert not ran.exists()


def test_python_of_a_folder_runs_where_it_is_asked_for(bert, folder, ran, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    for file in ("config.json", "tokenizer_config.json"):
        name_code(folder, file)
    found = examine(folder, trusted=True)
    assert ran.exists()
    assert type(found.config).__module__ == "transformers.models.bert.configuration_bert"
    # transformers 5 has one tokenizer of BERT, and calls it so.
    assert type(found.tokenizer).__module__.removesuffix("_fast") == "transformers.models.bert.tokenization_bert"
    common.save_tokenizer(found.tokenizer, tmp_path / "saved")
    found.config.save_pretrained(tmp_path / "saved")
    assert loading.code_of(tmp_path / "saved") is None
    assert common.tokenizer_of(tmp_path / "saved")("the film")["input_ids"] == found.tokenizer("the film")["input_ids"]
    assert "is read as bert of transformers" in found.notes[0]


def test_python_that_generates_does_not_run(tmp_path):
    """transformers runs it in a local folder without asking."""
    folder = models.write_gpt2(tmp_path / "gpt2")
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text("raise SystemExit")
    refused(folder, "is Python that transformers would run; remove it", "generation")


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_python_of_a_stage_folder_never_runs(folder, ran, file):
    name_code(folder, file)
    read = config_of if file == "config.json" else common.tokenizer_of
    with pytest.raises(UserError, match=r"\(auto_map\), which is not run; no stage wrote it so"):
        read(folder)
    assert not ran.exists()


def test_a_vocabulary_that_needs_sentencepiece(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").unlink(missing_ok=True)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "DebertaV2Tokenizer", "vocab_type": "spm"}')
    (folder / "spm.model").write_bytes(b"\x0a\x0e\x0a\x05<pad>\x15" + bytes(64))
    refused(folder, "reading spm.model needs sentencepiece, which is not installed; pip install sentencepiece")


def test_nothing_of_transformers_is_left_to_ask_for_code():
    """Every call that may run Python of a folder says whether it does."""
    own = {"architectures", "GenerationConfig"}
    for file in [*ROOT.glob("dsee_compress/**/*.py"), *ROOT.glob("cli/*.py"), *ROOT.glob("samples/**/*.py")]:
        for call in ast.walk(ast.parse(file.read_text())):
            match call:
                case ast.Call(func=ast.Attribute(attr="from_pretrained" | "from_config", value=value)):
                    if not (isinstance(value, ast.Name) and value.id in own):
                        assert "trust_remote_code" in [word.arg for word in call.keywords], f"{file}:{call.lineno}"


def test_a_local_folder_is_read_without_the_hub(bert, tmp_path, monkeypatch):
    def connect(*arguments: object) -> None:
        raise AssertionError(f"asked for {arguments[:2]}")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("transformers.utils.hub._is_offline_mode", False, raising=False)
    monkeypatch.setattr("socket.getaddrinfo", connect)
    monkeypatch.setattr("socket.socket.connect", connect)
    pretrained.load(str(bert), TASK, seed=0)
    examine(models.write_gpt2(tmp_path / "gpt2"), "generation")


def test_a_model_of_the_hub(bert, tmp_path, monkeypatch):
    """From the cache, as it is offline: the same checks hold for it."""
    cached = tmp_path / "models--someone--bert"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    folder = Path(shutil.copytree(bert, cached / "snapshots" / ("0" * 40)))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert pretrained.locate("someone/bert") == "someone/bert"
    model, tokenizer = pretrained.load("someone/bert", TASK, seed=0)
    wanted, _ = pretrained.load(str(bert), TASK, seed=0)
    torch.testing.assert_close(model.state_dict(), wanted.state_dict(), rtol=0, atol=0)
    assert tokenizer.pad_token_id == 0
    name_code(folder, "tokenizer_config.json")
    with pytest.raises(UserError, match=r"\(auto_map\), which is not run"):
        pretrained.load_config("someone/bert", "classification")


def test_a_model_of_the_hub_in_parts(bert, parts, tmp_path, monkeypatch):
    cached = tmp_path / "models--someone--bert"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    folder = Path(shutil.copytree(parts, cached / "snapshots" / ("0" * 40)))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    model, _ = pretrained.load("someone/bert", TASK, seed=0)
    wanted, _ = pretrained.load(str(bert), TASK, seed=0)
    torch.testing.assert_close(model.state_dict(), wanted.state_dict(), rtol=0, atol=0)
    sorted(folder.glob("model-*.safetensors"))[0].unlink()
    refused(Path("someone/bert"), "is missing, and model.safetensors.index.json names it")
