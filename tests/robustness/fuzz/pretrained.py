"""Pretrained folders whose config, weights or tokenizer were changed: refused, or what transformers makes of them."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dsee_compress.store.manifest import Manifest

from . import damage
from .base import FINETUNE, Base
from .case import ACCEPTED, REFUSED, Case, in_child

FAMILIES = ("bert", "bert", "bert", "roberta", "distilbert", "electra", "deberta-v3", "gpt2")
WEIGHTS = "model.safetensors"
TOLERANCE = 1e-4

Change = Callable[[random.Random, Path], str | None]


def make(draw: random.Random, base: Base, folder: Path) -> Case:
    """A fine-tuning, or its rehearsal, of a changed model."""
    family = draw.choice(FAMILIES)
    model = damage.copy_folder(base.model(family), folder / "model")
    name = draw.choice([*CHANGES])
    about = CHANGES[name](draw, model) or name
    data = base.texts if family == "gpt2" else base.data
    task = ["--task", "generation"] if family == "gpt2" else []
    may = REFUSED if name in NEVER_RIGHT else ACCEPTED if name in ALWAYS_RIGHT else frozenset({0, 2})
    if draw.random() < 0.25:
        recipe = {"finetune": {"model": "model", "data": str(data), "max_length": 32, "rank": 2, "sparse": 8}}
        recipe["finetune"] |= {"task": "generation"} if task else {}
        recipe["prune"] = {"heads": 0.25, "sequence_length": 32}
        recipe["benchmark"] = {"sequence_length": 8, "new_tokens": 8}
        (folder / "recipe.yaml").write_text(json.dumps(recipe))
        return Case(f"{family}, rehearsed: {about}", ["run", "recipe.yaml", "--output", "out", "--dry-run"], may=may)
    arguments = ["finetune", "--model", "model", "--data", str(data), "--output", "out", *task, *FINETUNE]
    return Case(f"{family}: {about}", arguments, may=may, checks=[_same])


def _config(**changes: Any) -> Change:
    """Values of config.json, each drawn from some."""

    def put(draw: random.Random, model: Path) -> str:
        name = draw.choice([*changes])
        return _put(model / "config.json", name, draw.choice(changes[name]))

    return put


def _put(path: Path, name: str, value: Any) -> str:
    document = json.loads(path.read_text(encoding="utf-8"))
    document[name] = value
    path.write_text(json.dumps(document), encoding="utf-8")
    return f"{path.name}: {name} = {value!r:.60}"


def _layers(more: int) -> Change:
    """Another number of layers in the config than there are weights of."""

    def put(draw: random.Random, model: Path) -> str:
        config = json.loads((model / "config.json").read_text())
        name = next(name for name in ("num_hidden_layers", "n_layers", "n_layer") if name in config)
        return _put(model / "config.json", name, config[name] + more)

    return put


def _weights(function: Callable[[random.Random, dict[str, Any]], dict[str, Any]]) -> Change:
    """Other tensors."""

    def put(draw: random.Random, model: Path) -> None:
        def write() -> None:
            from safetensors.torch import load_file, save_file

            tensors = function(draw, load_file(model / WEIGHTS))
            save_file(
                {name: tensor.clone().contiguous() for name, tensor in tensors.items()},
                model / WEIGHTS,
                {"format": "pt"},
            )

        in_child(write, model.parent, model.parents[1] / "log")

    return put


def _body(draw: random.Random, tensors: dict[str, Any]) -> str:
    """A matrix of a layer."""
    return draw.choice(
        sorted(name for name, tensor in tensors.items() if ".0." in name or ".1." in name if tensor.dim() == 2)
    )


def _with_value(value: float) -> Callable[[random.Random, dict[str, Any]], dict[str, Any]]:
    def function(draw: random.Random, tensors: dict[str, Any]) -> dict[str, Any]:
        tensors[_body(draw, tensors)][0, 0] = value
        return tensors

    return function


def _without(draw: random.Random, tensors: dict[str, Any]) -> dict[str, Any]:
    del tensors[_body(draw, tensors)]
    return tensors


def _in_type(name: str) -> Callable[[random.Random, dict[str, Any]], dict[str, Any]]:
    def function(draw: random.Random, tensors: dict[str, Any]) -> dict[str, Any]:
        import torch

        return {key: tensor.to(getattr(torch, name)) for key, tensor in tensors.items()}

    return function


def _reshaped(draw: random.Random, tensors: dict[str, Any]) -> dict[str, Any]:
    name = _body(draw, tensors)
    return tensors | {name: draw.choice([tensors[name][:-1], tensors[name][None], tensors[name].flatten()])}


def _one_layer_more(draw: random.Random, tensors: dict[str, Any]) -> dict[str, Any]:
    return tensors | {name.replace(".2.", ".3."): tensor for name, tensor in tensors.items() if ".2." in name}


def _renamed(draw: random.Random, tensors: dict[str, Any]) -> dict[str, Any]:
    names = sorted(tensors)
    return {f"x{name}" if name == draw.choice(names) else name: tensor for name, tensor in tensors.items()}


def _prefixed(draw: random.Random, tensors: dict[str, Any]) -> dict[str, Any]:
    return {f"module.{name}": tensor for name, tensor in tensors.items()}


def _sharded(draw: random.Random, model: Path) -> None:
    """As save_pretrained cuts large weights in parts."""

    def write() -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(model / WEIGHTS)
        names = sorted(tensors)
        parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
        for part, held in parts.items():
            save_file({name: tensors[name] for name in held}, model / part, {"format": "pt"})
        index = {"metadata": {}, "weight_map": {name: part for part, held in parts.items() for name in held}}
        (model / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
        (model / WEIGHTS).unlink()

    in_child(write, model.parent, model.parents[1] / "log")


def _broken_parts(draw: random.Random, model: Path) -> str:
    _sharded(draw, model)
    index = model / f"{WEIGHTS}.index.json"
    part = model / "model-00002-of-00002.safetensors"
    wrong: dict[str, Callable[[], object]] = {
        "a part is missing": part.unlink,
        "a part is cut": lambda: part.write_bytes(part.read_bytes()[:-50]),
        "the index is cut": lambda: index.write_text(index.read_text()[:-9]),
        "the index is a list": lambda: index.write_text("[]"),
        "the index names a path": lambda: index.write_text(index.read_text().replace("model-00002", "../model-00002")),
    }
    name = draw.choice([*wrong])
    wrong[name]()
    return name


def _any_json(draw: random.Random, model: Path) -> str:
    names = ["config.json", "config.json", "tokenizer.json", "tokenizer_config.json"]
    return damage.change_json(draw, model / draw.choice([name for name in names if (model / name).is_file()]))


def _bytes(*names: str) -> Change:
    def put(draw: random.Random, model: Path) -> str:
        return damage.damage_bytes(draw, model / draw.choice(names), flips=False)

    return put


def _file(*names: str) -> Change:
    def put(draw: random.Random, model: Path) -> str:
        return damage.damage_file(draw, model / draw.choice(names))

    return put


def _header(draw: random.Random, model: Path) -> str:
    """What stands at the beginning of a safetensors file."""
    content = bytearray((model / WEIGHTS).read_bytes())
    wrong = draw.choice(["length", "letters"])
    if wrong == "length":
        content[:8] = draw.choice([b"\xff" * 8, bytes(8), (2**40).to_bytes(8, "little")])
    else:
        content[8 + draw.randrange(60)] ^= 0x55
    (model / WEIGHTS).write_bytes(bytes(content))
    return f"safetensors' header: {wrong}"


def _tokenizer(change: Callable[[dict[str, Any]], object]) -> Change:
    def put(draw: random.Random, model: Path) -> None:
        path = model / "tokenizer.json"
        document = json.loads(path.read_text(encoding="utf-8"))
        change(document)
        path.write_text(json.dumps(document), encoding="utf-8")

    return put


def _more_tokens(document: dict[str, Any]) -> None:
    """More than the model has embeddings of."""
    entry = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    first = 1 + max(token["id"] for token in document["added_tokens"])
    document["added_tokens"] += [{"id": first + index, "content": f"[NEW{index}]", **entry} for index in range(600)]


def _more_files(draw: random.Random, model: Path) -> str:
    """What others put into such folders."""
    files: dict[str, str] = {
        "adapter_config.json": json.dumps({"peft_type": "LORA", "base_model_name_or_path": "someone/else"}),
        "generation_config.json": draw.choice(["{", "[]", '{"max_length": "x"}']),
        "special_tokens_map.json": draw.choice(["{", "[]", '{"pad_token": 5}', '{"pad_token": "[NOPE]"}']),
        "added_tokens.json": draw.choice(["{", '{"[MORE]": 4999}']),
        "chat_template.jinja": "{{",
        "pytorch_model.bin": "not a pickle",
        "README.md": "# a model",
        "modeling.py": "raise SystemExit(7)",
        "vocab.txt": "",
    }
    name = draw.choice([*files])
    (model / name).write_text(files[name])
    return f"with {name}"


CHANGES: dict[str, Change] = {
    "any JSON": _any_json,
    "any JSON, too": _any_json,
    "any JSON, three": _any_json,
    "odd ids": _config(
        pad_token_id=(None, -1, 3, 499, 500, "0"),
        eos_token_id=(None, [2, 3], -1),
        bos_token_id=(None, 10**6),
        vocab_size=(0, 499, 501, 30522),
    ),
    "odd shapes": _config(
        hidden_size=(30, 64, 0),
        num_attention_heads=(3, 5, 0),
        intermediate_size=(41, 0),
        max_position_embeddings=(8, 139, 0),
        n_embd=(30,),
    ),
    "odd kinds": _config(
        model_type=("roberta", "bert", "gpt2", "t5", "llama", "", "../x"),
        hidden_act=("relu", "silu", "none"),
        is_decoder=(True,),
        position_embedding_type=("relative_key",),
        architectures=(["T5Model"], [], "x"),
        type_vocab_size=(0, 1, 5),
        quantization_config=({}, {"quant_method": "gptq"}),
    ),
    "odd numbers": _config(
        layer_norm_eps=(0.0, -1.0, 1e30, "x"),
        hidden_dropout_prob=(1.0, 2.0, -0.5),
        initializer_range=(0, -1, 1e30),
        num_labels=(0, 1, 7),
        id2label=({}, {"0": "x"}, {"a": "b"}),
    ),
    "types of weights": _config(torch_dtype=("float16", "int8", "x", 5), dtype=("bfloat16", "float64", None)),
    "code": _config(
        auto_map=({"AutoConfig": "evil.C", "AutoModel": "evil.M"}, {"AutoTokenizer": ["evil.T", None]}, "x")
    ),
    "a layer more in the config": _layers(1),
    "a layer less in the config": _layers(-1),
    "config bytes": _bytes("config.json"),
    "config file": _file("config.json"),
    "weights bytes": _bytes(WEIGHTS),
    "weights file": _file(WEIGHTS),
    "weights header": _header,
    "tokenizer bytes": _bytes("tokenizer.json", "tokenizer_config.json"),
    "tokenizer file": _file("tokenizer.json", "tokenizer_config.json"),
    "NaN": _weights(_with_value(float("nan"))),
    "infinity": _weights(_with_value(float("-inf"))),
    "large": _weights(_with_value(3e38)),
    "a tensor less": _weights(_without),
    "a layer more": _weights(_one_layer_more),
    "another shape": _weights(_reshaped),
    "another name": _weights(_renamed),
    "a prefix": _weights(_prefixed),
    "fp16": _weights(_in_type("float16")),
    "bf16": _weights(_in_type("bfloat16")),
    "fp64": _weights(_in_type("float64")),
    "int8": _weights(_in_type("int8")),
    "parts": _sharded,
    "broken parts": _broken_parts,
    "too many tokens": _tokenizer(_more_tokens),
    "no post-processor": _tokenizer(lambda document: document.update(post_processor=None)),
    "padded": _tokenizer(
        lambda document: document.update(
            padding={
                "strategy": {"Fixed": 16},
                "direction": "Left",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "[PAD]",
            }
        )
    ),
    "cut": _tokenizer(
        lambda document: document.update(
            truncation={"direction": "Left", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
        )
    ),
    "no normaliser": _tokenizer(lambda document: document.update(normalizer=None, pre_tokenizer=None)),
    "more files": _more_files,
    "as it is": lambda draw, model: None,
}
NEVER_RIGHT = {
    *("a layer more in the config", "a layer less in the config", "config bytes", "config file", "weights bytes"),
    *("weights file", "weights header", "NaN", "infinity", "a tensor less", "a layer more", "another shape", "int8"),
    *("broken parts", "too many tokens"),
}
ALWAYS_RIGHT = {"as it is", "fp16", "fp64", "padded", "cut"}


def _same(folder: Path) -> str:
    """Where the model without its update answers padded rows otherwise than transformers' own does each alone."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    from dsee_compress import tasks
    from dsee_compress.adapters import model as adapters

    task = Manifest.read(folder / "out").task
    ours, theirs = (AutoTokenizer.from_pretrained(folder / name) for name in ("out", "model"))
    model = adapters.load(folder / "out")
    for update in adapters.updates(model).values():
        update.up.data.zero_()
        update.values.data.zero_()
    reference = AutoModel.from_pretrained(folder / "model", dtype=torch.float32).eval()
    rows = list(tasks.encode(task, "validation", ours))[:4]
    batch = tasks.get("classification").collator(ours)(rows)
    del batch["labels"]
    lines = Path(task.data, "validation.jsonl").read_text().splitlines()
    with torch.no_grad():
        found = model.base_model(**batch).last_hidden_state
        for number, row in enumerate(rows):
            tokens = row["input_ids"]
            if task.name != "generation":
                wanted = theirs(json.loads(lines[number])["text"], truncation=True, max_length=task.max_length)[
                    "input_ids"
                ]
                if list(tokens) != list(wanted):
                    return f"row {number} is read as {tokens}, not {wanted}"
            expected = reference(input_ids=torch.tensor([tokens])).last_hidden_state[0]
            apart = (found[number][batch["attention_mask"][number].bool()] - expected).abs().max().item()
            if not apart <= TOLERANCE * max(1.0, expected.abs().max().item()):
                return f"row {number}: hidden states are {apart:.1e} apart"
    return ""
