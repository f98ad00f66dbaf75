"""Whether a config is one that can be exported, and a tokenizer one that belongs to it: before anything is trained."""

from typing import TYPE_CHECKING

from .. import architectures, interfaces
from ..errors import UserError, first_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

_STRANGE = "ᚠᛇᚻ"
"""A word that hardly a vocabulary knows."""
_SIZES = {
    "vocab_size": 1,
    "hidden_size": 1,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "max_position_embeddings": 1,
    "type_vocab_size": 0,
}
"""Entries of a config that are numbers, and the least that each may be."""
_ROTARY_BY_LENGTH = ("dynamic", "longrope")
_PLAIN_ANSWER = {"return_dict": True, "output_attentions": False, "output_hidden_states": False, "torchscript": False}
"""Entries of a config that say how a model answers, and not what it computes."""


def require_exportable(config: "PretrainedConfig", where: str) -> None:
    """Raise UserError for what a config asks of its family and no graph of ours does; `where` names the model.

    What says how the model answers, and not what it computes, is set to what the stages expect.
    """
    for name, least in _SIZES.items():
        size = getattr(config, name, least)
        if not isinstance(size, int) or size < least:
            raise UserError(f"{where} has {size!r} as {name} in its config, which is no whole number from {least} on")
    if not isinstance(config.pad_token_id, int | None):
        raise UserError(f"{where} has {config.pad_token_id!r} as pad_token_id in its config, which is no token's id")
    if getattr(config, "quantization_config", None):
        raise UserError(f"{where} is quantised (quantization_config); give the weights before quantising")
    if getattr(config, "pruned_heads", None):
        raise UserError(f"{where} has pruned_heads in its config; give the model before its heads were removed")
    family = architectures.get(config.model_type)
    activation = getattr(config, family.activation)
    if activation not in family.activations:
        known = " or ".join(family.activations)
        raise UserError(f"{where} has {activation!r} in its FFN; {known} alone is exported as it should be")
    if getattr(config, "add_cross_attention", False):
        raise UserError(f"{where} attends to an encoder (add_cross_attention), which is not exported")
    # transformers 5 renamed it.
    rotary = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if rotary.get("rope_type", rotary.get("type")) in _ROTARY_BY_LENGTH:
        raise UserError(f"{where} has rope_scaling that depends on a text's length ({rotary}), which is not exported")
    interfaces.of(config.model_type).require_exportable(config, where)
    config.update(_PLAIN_ANSWER)


def settle(tokenizer: "PreTrainedTokenizerBase", config: "PretrainedConfig", where: str, max_length: int) -> list[str]:
    """Have `tokenizer` give what a model of `config` takes, in place; `where` names the folder of both.

    Returns what is worth telling. UserError, saying what to do, where they do not belong together.
    """
    if not isinstance(tokenizer.model_max_length, int | float):
        raise UserError(
            f"the tokenizer in {where} has {tokenizer.model_max_length!r} as model_max_length; give a number"
        )
    _require_known_ids(tokenizer, config, where)
    _require_unknown_token(tokenizer, where)
    told = []
    if tokenizer.model_max_length < max_length:
        told.append(
            f"{where}: its tokenizer cuts texts at {tokenizer.model_max_length} tokens, and they are cut at "
            f"max_length {max_length} here"
        )
    return told + interfaces.of(config.model_type).settle(tokenizer, config, where)


def _require_known_ids(tokenizer: "PreTrainedTokenizerBase", config: "PretrainedConfig", where: str) -> None:
    token, last = max(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    if last >= config.vocab_size:
        raise UserError(
            f"the tokenizer in {where} has {token!r} as token {last}, and the model knows {config.vocab_size} tokens; "
            "they do not belong together"
        )


def _require_unknown_token(tokenizer: "PreTrainedTokenizerBase", where: str) -> None:
    """UserError if a word that is not in the vocabulary is an error, or nothing."""
    missing = f"the tokenizer in {where} has no token for unknown words"
    add = "name one as unk_token in its tokenizer.json"
    try:
        tokens = tokenizer(_STRANGE, add_special_tokens=False)["input_ids"]
    except Exception as error:  # tokenizers raises Exception itself
        raise UserError(f"{missing} ({first_line(error)}); {add}") from error
    if not tokens:
        raise UserError(f"{missing}, and leaves them out of a text; {add}")
    if any(token is None for token in tokens):
        raise UserError(f"{missing}; {add}")
