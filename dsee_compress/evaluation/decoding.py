"""What a decoder writes to prompts, and how likely it holds what people wrote."""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..configs import DecodingConfig, GenerateConfig
from ..errors import UserError
from .inputs import Batch, Forward

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


class TokenLosses(NamedTuple):
    """The negative log-likelihood of each token of the targets, and the row that it stands in, both (tokens,)."""

    losses: NDArray[np.float64]
    rows: NDArray[np.int64]


def generate(
    model: Any,
    prompts: list[list[int]],
    decoding: DecodingConfig,
    tokenizer: "PreTrainedTokenizerBase",
    batch_size: int,
    streamer: Any = None,
) -> list[str]:
    """What `model`, which has transformers' `generate`, writes to each prompt of token ids, in their order.

    Prompts of similar length share a batch and are padded on the left. Texts end before the end of text, after
    `max_new_tokens`, or where the model has no more positions. A streamer of transformers sees the tokens of a single
    prompt as they come. UserError for a prompt that leaves no position for a text.
    """
    longest = max(map(len, prompts), default=0)
    room = getattr(model.config, "max_position_embeddings", None)
    if room is not None and longest >= room:
        raise UserError(f"a prompt has {longest} tokens, and the model reads {room}, its own text included; shorten it")
    texts = [""] * len(prompts)
    uncut = math.inf if room is None else room - decoding.max_new_tokens
    for chosen in _batches(prompts, batch_size, uncut):
        written = _write(model, [prompts[index] for index in chosen], decoding, tokenizer, streamer)
        decoded = tokenizer.batch_decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for index, text in zip(chosen, decoded, strict=True):
            texts[index] = text.strip()
    return texts


def token_losses(forward: Forward, batches: list[Batch], ignored: int) -> TokenLosses:
    """The loss of each target token of teacher-forced batches, whose `labels` are `ignored` elsewhere.

    forward: from a batch without labels to logits (batch, sequence, vocabulary), each for the token that comes next.
    """
    from scipy.special import logsumexp

    losses, rows, first = [], [], 0
    for batch in batches:
        logits = forward({name: array for name, array in batch.items() if name != "labels"})
        for row, labels in enumerate(batch["labels"][:, 1:]):
            positions = np.flatnonzero(labels != ignored)
            scores = logits[row, positions].astype(np.float64)
            losses.append(logsumexp(scores, axis=-1) - scores[np.arange(len(positions)), labels[positions]])
            rows.append(np.full(len(positions), first + row))
        first += len(batch["labels"])
    return TokenLosses(np.concatenate(losses), np.concatenate(rows))


def _batches(prompts: list[list[int]], batch_size: int, uncut: float) -> Iterator[list[int]]:
    """Indices of prompts, the longest first. A batch writes as much as its longest leaves room for: where that is
    longer than `uncut`, all others are as long."""
    batch: list[int] = []
    for index in sorted(range(len(prompts)), key=lambda index: -len(prompts[index])):
        length, longest = len(prompts[index]), len(prompts[batch[0]]) if batch else 0
        if len(batch) == batch_size or length < longest > uncut:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _write(model: Any, prompts: list[list[int]], decoding: DecodingConfig, tokenizer: Any, streamer: Any) -> Any:
    """The tokens after a batch of prompts, the longest first: (batch, new tokens)."""
    import torch
    from transformers import LogitsProcessorList

    length = len(prompts[0])
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    room = getattr(model.config, "max_position_embeddings", None) or length + decoding.max_new_tokens
    processors = [_unrepeated(decoding.no_repeat_ngram, length)] if decoding.no_repeat_ngram else []
    tokens = torch.tensor([[pad] * (length - len(prompt)) + prompt for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    with torch.inference_mode():
        written = model.generate(
            input_ids=tokens,
            attention_mask=mask,
            past_key_values=_read_once(model, tokens, mask, decoding.beams),
            **_chosen(decoding),
            num_beams=decoding.beams,
            length_penalty=decoding.length_penalty,
            no_repeat_ngram_size=0,
            max_new_tokens=min(decoding.max_new_tokens, room - length),
            pad_token_id=pad,
            eos_token_id=tokenizer.eos_token_id,
            logits_processor=LogitsProcessorList(processors),
            streamer=streamer,
        )
    return written[:, length:]


def _read_once(model: Any, tokens: "Tensor", mask: "Tensor", beams: int) -> Any:
    """Keys and values of all of the prompts' tokens but the last, in a row a beam: transformers would read every prompt
    once a beam. None where there is but one beam, or one token.

    tokens, mask: (batch, tokens), the mask 0 for padding.
    """
    if beams == 1 or tokens.shape[1] == 1:
        return None
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    read = {"input_ids": tokens, "attention_mask": mask, "position_ids": positions}
    before = {name: tensor[:, :-1] for name, tensor in read.items()}
    past = model(**before, use_cache=True, logits_to_keep=1).past_key_values
    past.batch_repeat_interleave(beams)
    return past


def _chosen(decoding: DecodingConfig) -> dict[str, Any]:
    """How a token is chosen by its probability: the likeliest, or at random."""
    if isinstance(decoding, GenerateConfig) and decoding.temperature:
        return {"do_sample": True, "temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0}
    return {"do_sample": False}


def _unrepeated(size: int, start: int) -> Callable[[Any, Any], Any]:
    """Forbids what would write `size` tokens in a row again; the first `start`, the prompt, may be repeated."""
    from transformers import LogitsProcessor, NoRepeatNGramLogitsProcessor

    class Unrepeated(LogitsProcessor):
        def __init__(self) -> None:
            self._written = NoRepeatNGramLogitsProcessor(size)

        def __call__(self, tokens: Any, scores: Any) -> Any:
            return self._written(tokens[:, start:], scores)

    return Unrepeated()
