"""The vocabulary of an export: trimmed to a data set's tokens, and proven to lose nothing of it."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import data, digests, tasks
from ..configs import ExportConfig
from ..data import encoded
from ..errors import GateError, UserError
from ..evaluation import parity
from ..exporting import vocabulary
from ..store.manifest import ExportManifest, Manifest
from ..tasks import Spec
from . import common


def located(config: ExportConfig) -> dict[str, str | None]:
    """Where what the vocabulary is trimmed to lies, as the config's options; UserError if it is not there."""
    if config.keep_texts is not None and not Path(config.keep_texts).is_file():
        raise UserError(f"keep_texts: there is no file {config.keep_texts}")
    return {
        "trim_vocabulary": config.trim_vocabulary and data.locate(config.trim_vocabulary),
        "keep_texts": config.keep_texts and str(Path(config.keep_texts).resolve()),
    }


def fingerprints(config: ExportConfig) -> dict[str, str]:
    """SHA-256 of what the vocabulary is trimmed to; nothing, if it is not."""
    read = {}
    if config.trim_vocabulary is not None:
        read["trim_vocabulary"] = data.fingerprint(config.trim_vocabulary, "train")
    if config.keep_texts is not None:
        read["keep_texts"] = digests.sha256(Path(config.keep_texts))
    return read


def require_unchanged(config: ExportConfig, before: dict[str, str]) -> None:
    """UserError unless the files still are as `fingerprints` found them, some of `before`."""
    for name, now in fingerprints(config).items():
        if now != before[name]:
            raise UserError(f"{name} changed while it was read; run the command again when nothing writes to it")


def is_trimmed(manifest: Manifest) -> bool:
    """Whether a stage folder has another vocabulary than what it was made from."""
    return isinstance(manifest, ExportManifest) and manifest.metrics.vocabulary is not None


class Trimmed(NamedTuple):
    """What a smaller vocabulary brings with it."""

    tokenizer: PreTrainedTokenizerBase
    generation_config: dict[str, Any]
    """By the new ids."""
    metrics: dict[str, int]
    """The number of tokens before and after, and of the parameters that went."""


def trim(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    generation_config: dict[str, Any],
    task: Spec,
    config: ExportConfig,
) -> Trimmed:
    """Cut `model`, in place, to the tokens that `config` asks for.

    generation_config: the content of the file, empty for an encoder. GateError unless the data is read as before and
    the logits on it are the same: an encoder's to the bit, a decoder's of the kept tokens but for rounding.
    """
    task = task.model_copy(update={"data": config.trim_vocabulary})
    rows = tasks.encode(task, "train", tokenizer)
    common.tell_read(train=rows)
    read = {index for ids in rows["input_ids"] for index in ids}
    wanted = read | _tokens_of(config.keep_texts, tokenizer) | vocabulary.ids_named(generation_config)
    before = common.GateRows(task, rows, tokenizer).logits(model)
    size, parameters = model.config.vocab_size, model.num_parameters()
    smaller, new_ids = vocabulary.trim(model, tokenizer, wanted)
    again = tasks.encode(task, "train", smaller)
    others = sum(
        [new_ids[index] for index in before_ids] != after_ids
        for before_ids, after_ids in zip(rows["input_ids"], again["input_ids"], strict=True)
    )
    if others:
        raise GateError(f"gate 'vocabulary' failed: {others} of {len(rows)} training texts are read as other tokens")
    gate = parity.VOCABULARY
    if model.get_output_embeddings() is not None:
        gate, before = parity.VOCABULARY_SCORES, [logits[..., [*new_ids]] for logits in before]
    common.GateRows(task, again, smaller).require_same(gate, before, model)
    counted = {"before": size, "after": len(new_ids), "parameters_removed": parameters - model.num_parameters()}
    return Trimmed(smaller, vocabulary.with_new_ids(generation_config, new_ids), counted)


def read_alike(task: Spec, split: str, tokenizers: dict[bool, PreTrainedTokenizerBase]) -> NDArray[np.bool_] | None:
    """Which examples of a split a trimmed (True) and a whole (False) vocabulary read as the same tokens, (examples,).

    None where there is one vocabulary alone.
    """
    if len(tokenizers) == 1:
        return None
    read = [
        [own.convert_ids_to_tokens(ids) for ids in tasks.of(task).inputs(task, split, own)]
        for own in tokenizers.values()
    ]
    return np.array([left == right for left, right in zip(*read, strict=True)])


def _tokens_of(file: str | None, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids in the lines of a text file, each as it stands and after a space; UserError if it is no text."""
    if file is None:
        return set()
    found: set[int] = set()
    try:
        with Path(file).open(encoding="utf-8") as stream:
            for lines in encoded.batched(line.rstrip("\n") for line in stream):
                ids: Any = tokenizer([text for line in lines for text in (line, f" {line}")])["input_ids"]
                found.update(*ids)
    except UnicodeDecodeError as error:
        raise UserError(f"keep_texts {file} is not text in UTF-8: {error}") from error
    return found
