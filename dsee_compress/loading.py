"""Configs and tokenizers as transformers reads them from a folder, without running Python that the folder brings.

transformers runs the Python that `auto_map` or `custom_generate/` name, the first after a "y" on standard input, and
fetches from the hub the model that an adapter stands on. Neither happens here unless it was asked for by name.
"""

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

CONFIG = "config.json"
ADAPTER = "adapter_config.json"
_NAMES_CODE = (CONFIG, "tokenizer_config.json")
_GENERATES = Path("custom_generate", "generate.py")
_READERS = {"*.model": ("sentencepiece", "google.protobuf"), "*.tiktoken": ("tiktoken",)}
"""What reads a vocabulary that is not a tokenizer.json: modules by the name of the file."""
_PACKAGES = {"google.protobuf": "protobuf"}
_TEXTS = ("a few words", "Some WORDS, and: signs!  Two spaces", "ein Ä, 中文 and a 🙂", "[CLS] <s> </s> [SEP]")


def entries(path: Path) -> dict[str, Any]:
    """What a JSON file maps; nothing if it is not there, or is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def code_of(folder: Path) -> Path | None:
    """The file in `folder` that names Python to run in place of transformers' own, if there is one."""
    return next((folder / name for name in _NAMES_CODE if "auto_map" in entries(folder / name)), None)


def require_no_code(folder: Path, what_to_do: str) -> None:
    """Raise UserError, ending with `what_to_do`, if `folder` names Python to run in place of transformers' own."""
    named = code_of(folder)
    if named is not None:
        raise UserError(f"{named} names Python code of its own (auto_map), which is not run; {what_to_do}")
    if (folder / _GENERATES).exists():
        raise UserError(f"{folder / _GENERATES} is Python that transformers would run; remove it from the folder")


def require_no_adapter(folder: Path) -> None:
    """Raise UserError if `folder` is a PEFT adapter and not a model of its own."""
    if (folder / ADAPTER).exists():
        raise UserError(
            f"{folder} holds {ADAPTER}: it is a PEFT adapter, not a model; give the model that it stands on to "
            "`dsee-compress import-peft` beside it, or merge the two and save them as one"
        )


def config_of(folder: Path, *, trusted: bool = False) -> "PretrainedConfig":
    """The config in `folder`, of transformers' own class; `trusted` Python may have made it. Raises what transformers
    does, and ValueError for a model type that transformers would guess from the folder's name."""
    from transformers import CONFIG_MAPPING, AutoConfig

    content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("model_type"), str):
        raise ValueError(f"{CONFIG} has no model_type")
    config: PretrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=trusted)
    if config.model_type not in CONFIG_MAPPING:
        return config
    plain = {name: value for name, value in config.to_dict().items() if name != "auto_map"}
    return config if not trusted else CONFIG_MAPPING[config.model_type].from_dict(plain)


def tokenizer_of(folder: Path, *, trusted: bool = False) -> "PreTrainedTokenizerBase":
    """The tokenizer in `folder`, of a class of transformers; what `trusted` Python made is turned into one.

    Raises what transformers and tokenizers do, and UserError for what is not installed or is Python alone.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=trusted)
    except Exception as error:  # tokenizers raises Exception itself
        missing = _missing_reader(folder)
        if missing is None:
            raise
        raise UserError(
            f"{folder} has no tokenizer.json, and reading {missing[0]} needs {missing[1]}, which is not installed; "
            f"pip install {missing[1]}"
        ) from error
    return _without_code(tokenizer, folder)


def _missing_reader(folder: Path) -> tuple[str, str] | None:
    """A vocabulary in `folder` and the package that would read it, if that is what the tokenizer lacks."""
    if (folder / "tokenizer.json").exists():
        return None
    for pattern, modules in _READERS.items():
        for file in folder.glob(pattern):
            for module in modules:
                if importlib.util.find_spec(module.partition(".")[0]) is None:
                    return file.name, _PACKAGES.get(module, module)
    return None


def _without_code(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> "PreTrainedTokenizerBase":
    """`tokenizer` as an instance of the class of transformers that its own stands on, so that a folder to which it is
    saved needs no Python. UserError if that reads texts otherwise."""
    own = type(tokenizer)
    plain = next(base for base in own.__mro__ if base.__module__.startswith("transformers."))
    if plain is own:
        return tokenizer
    where = f"the tokenizer of {folder} is Python of its own ({own.__name__})"
    if not tokenizer.is_fast:
        raise UserError(f"{where} without a tokenizer.json, which later stages need; save it as a fast tokenizer")
    left_out = {"auto_map", "added_tokens_decoder", "name_or_path", "tokenizer_class"}
    options = {
        name: value
        for name, value in tokenizer.init_kwargs.items()
        if name not in left_out and not name.endswith("_file")
    }
    again: PreTrainedTokenizerBase = plain(tokenizer_object=tokenizer.backend_tokenizer, **options)
    if any(dict(again(text)) != dict(tokenizer(text)) for text in _TEXTS):
        raise UserError(f"{where}, and reads texts otherwise than its tokenizer.json, which later stages read")
    return again
