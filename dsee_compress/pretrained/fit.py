"""Whether a config is one that can be exported, and what has to be agreed between a tokenizer and a model.

All of it is found out before anything is trained. What a tokenizer gives and a model does not take, and the other way
round, is settled in the tokenizer, which every later folder carries: what it then gives is what every graph asks for.
"""

import re
from typing import TYPE_CHECKING, Any

from .. import architectures
from ..errors import UserError, first_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

IDS, TYPES, MASK = "input_ids", "token_type_ids", "attention_mask"
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
    if not family.decoder:
        _require_encoder(config, where)
    config.update(_PLAIN_ANSWER)


def _require_encoder(config: "PretrainedConfig", where: str) -> None:
    if getattr(config, "is_decoder", False):
        raise UserError(f"{where} is a decoder (is_decoder), and its family is exported as an encoder alone")
    positions = getattr(config, "position_embedding_type", None) or "absolute"
    if positions != "absolute":
        raise UserError(f"{where} has {positions!r} positions (position_embedding_type); absolute alone are exported")
    if architectures.get(config.model_type).positions_after_padding:
        padding, most = config.pad_token_id, config.max_position_embeddings
        if padding is None or not 0 <= padding < min(config.vocab_size, most - 1):
            raise UserError(
                f"{where} counts positions from its pad_token_id, and that is {padding}; set it in the config"
            )
    # The same sums in pieces, whose number an export would fix.
    config.chunk_size_feed_forward = 0


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
    if architectures.get(config.model_type).decoder:
        if tokenizer.pad_token is None:  # GPT-2 has none; what is padded is masked
            tokenizer.pad_token = tokenizer.eos_token
        config.pad_token_id = tokenizer.pad_token_id
        return told
    told += _settle_side(tokenizer, where)
    told += _settle_padding(tokenizer, config, where)
    told += _settle_types(tokenizer, config, where)
    return told + _without_ends(tokenizer, where)


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
        tokens = tokenizer(_STRANGE, add_special_tokens=False)[IDS]
    except Exception as error:  # tokenizers raises Exception itself
        raise UserError(f"{missing} ({first_line(error)}); {add}") from error
    if not tokens:
        raise UserError(f"{missing}, and leaves them out of a text; {add}")
    if any(token is None for token in tokens):
        raise UserError(f"{missing}; {add}")


def _settle_side(tokenizer: "PreTrainedTokenizerBase", where: str) -> list[str]:
    """Padding stands at the end: at the start it would move the positions of a text by the longest beside it."""
    if tokenizer.padding_side != "left":
        return []
    tokenizer.padding_side = "right"
    return [f"{where}: its tokenizer pads at the start, which would move positions; it pads at the end here"]


def _settle_padding(tokenizer: "PreTrainedTokenizerBase", config: "PretrainedConfig", where: str) -> list[str]:
    """Padding is masked: any token will do, but where positions are counted from the config's, whose id stays."""
    told = []
    if tokenizer.pad_token_id is None:
        token = _token(tokenizer, config.pad_token_id)
        if token is None:
            raise UserError(
                f"the tokenizer in {where} has no padding token, nor has it one for the config's pad_token_id "
                f"{config.pad_token_id}; name it as pad_token in its tokenizer_config.json"
            )
        tokenizer.add_special_tokens({"pad_token": token})
        told.append(f"{where}: its tokenizer names no padding token; {token!r}, the config's pad_token_id, is taken")
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id
    counted = architectures.get(config.model_type).positions_after_padding
    if counted and tokenizer.pad_token_id != config.pad_token_id:
        told.append(
            f"{where}: padding is token {tokenizer.pad_token_id}, and positions are counted by the config's "
            f"pad_token_id {config.pad_token_id}, as in pretraining"
        )
    return told


def _token(tokenizer: "PreTrainedTokenizerBase", index: int | None) -> str | None:
    """The token of an id, if it is one beside the words: special already, or in brackets."""
    if index is None:
        return None
    token: Any = tokenizer.convert_ids_to_tokens(index)
    if token is None or not (index in tokenizer.all_special_ids or re.fullmatch(r"\[.+\]|<.+>", token)):
        return None
    return str(token)


def _settle_types(tokenizer: "PreTrainedTokenizerBase", config: "PretrainedConfig", where: str) -> list[str]:
    """Which of the model's inputs the tokenizer gives; where it gives no token types, the model takes 0."""
    names, told = tokenizer.model_input_names or [], []
    gives = TYPES in names
    takes = architectures.get(config.model_type).token_types
    kinds = getattr(config, "type_vocab_size", None) or 0
    if gives and takes and kinds:
        given = max(tokenizer("a", "a", return_token_type_ids=True)[TYPES], default=0)
        if kinds == 1:
            gives = False
            if given:
                told.append(f"{where}: its tokenizer gives token types, and the model has one; 0 is fed throughout")
        elif given >= kinds:
            raise UserError(
                f"the tokenizer in {where} gives token types up to {given}, and the model has {kinds}; "
                "they do not belong together"
            )
        elif tokenizer.pad_token_type_id >= kinds:
            _set(tokenizer, "pad_token_type_id", 0)
    elif takes and kinds > 1:
        told.append(f"{where}: its tokenizer gives no token types; 0 is fed throughout, as transformers does")
    wanted = [IDS, *([TYPES] if gives and takes else []), MASK]
    if {*wanted} != {*names}:
        _set(tokenizer, "model_input_names", wanted)
    return told


def _without_ends(tokenizer: "PreTrainedTokenizerBase", where: str) -> list[str]:
    if tokenizer.num_special_tokens_to_add(pair=False):
        return []
    return [
        f"{where}: its tokenizer puts no special tokens around a text; the answer is read at the text's own first token"
    ]


def _set(tokenizer: "PreTrainedTokenizerBase", name: str, value: Any) -> None:
    """Change an attribute of a tokenizer that it saves as it was made."""
    setattr(tokenizer, name, value)
    tokenizer.init_kwargs[name] = value
