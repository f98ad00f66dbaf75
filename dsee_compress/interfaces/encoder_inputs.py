"""What an encoder's config and tokenizer have to agree on.

What a tokenizer gives and a model does not take, and the other way round, is settled in the tokenizer, which every
later folder carries: what it then gives is what every graph asks for.
"""

import re
from typing import TYPE_CHECKING, Any

from .. import architectures
from ..errors import UserError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

IDS, TYPES, MASK = "input_ids", "token_type_ids", "attention_mask"


def require_exportable(config: "PretrainedConfig", where: str) -> None:
    """As `Interface.require_exportable`."""
    if getattr(config, "is_decoder", False):
        raise UserError(f"{where} is a decoder (is_decoder), and its family is exported as an encoder alone")
    positions = getattr(config, "position_embedding_type", None) or "absolute"
    if positions != "absolute":
        raise UserError(f"{where} has {positions!r} positions (position_embedding_type); absolute alone are exported")
    family = architectures.get(config.model_type)
    if family.positions_after_padding:
        padding, most = config.pad_token_id, config.max_position_embeddings
        if family.padding not in (None, padding):
            raise UserError(
                f"{where} has {padding} as pad_token_id in its config, and models of its family count positions from "
                f"token {family.padding}; set it in the config"
            )
        if padding is None or not 0 <= padding < min(config.vocab_size, most - 1):
            raise UserError(
                f"{where} counts positions from its pad_token_id, and that is {padding}; set it in the config"
            )
    # The same sums in pieces, whose number an export would fix.
    config.chunk_size_feed_forward = 0


def settle(tokenizer: "PreTrainedTokenizerBase", config: "PretrainedConfig", where: str) -> list[str]:
    """As `Interface.settle`."""
    told = _settle_side(tokenizer, where)
    told += _settle_padding(tokenizer, config, where)
    told += _settle_types(tokenizer, config, where)
    return told + _without_ends(tokenizer, where)


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
