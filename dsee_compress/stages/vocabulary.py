"""The vocabulary of an export: trimmed to a data set's tokens, and proven to lose nothing of it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import checkpoint, tasks
from ..checkpoint import Manifest, Task
from ..configs import ExportConfig
from ..errors import GateError, UserError
from ..evaluation import parity
from ..exporting import vocabulary
from ..tasks import data
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
        read["keep_texts"] = checkpoint.sha256(Path(config.keep_texts))
    return read


def is_trimmed(manifest: Manifest) -> bool:
    """Whether a stage folder has another vocabulary than what it was made from."""
    return "vocabulary" in manifest.metrics


def trim(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Task, config: ExportConfig
) -> tuple[PreTrainedTokenizerBase, dict[str, int]]:
    """Cut `model`, in place, to the tokens that `config` asks for.

    Returns its tokenizer, and the number of tokens before and after, and of the parameters that went. GateError unless
    the data is read as before and the logits on it are the same to the bit.
    """
    task = task.model_copy(update={"data": config.trim_vocabulary})
    rows = tasks.encode(task, "train", tokenizer)
    wanted = {index for ids in rows["input_ids"] for index in ids} | _tokens_of(config.keep_texts, tokenizer)
    batches = common.gate_batches(rows, tasks.collator(tokenizer))
    before = common.logits_of(model, batches)
    size, parameters = model.config.vocab_size, model.num_parameters()
    smaller, old_ids = vocabulary.trim(model, tokenizer, wanted)
    again = tasks.encode(task, "train", smaller)
    others = sum(
        ids != [old_ids[index] for index in new_ids]
        for ids, new_ids in zip(rows["input_ids"], again["input_ids"], strict=True)
    )
    if others:
        raise GateError(f"gate 'vocabulary' failed: {others} of {len(rows)} training texts are read as other tokens")
    common.pass_gate(parity.VOCABULARY, before, model, common.gate_batches(again, tasks.collator(smaller)))
    gone = parameters - model.num_parameters()
    return smaller, {"before": size, "after": len(old_ids), "parameters_removed": gone}


def read_alike(task: Task, split: str, tokenizers: dict[bool, PreTrainedTokenizerBase]) -> NDArray[np.bool_] | None:
    """Which rows of a split a trimmed (True) and a whole (False) vocabulary read as the same tokens, (rows,).

    None where there is one vocabulary alone.
    """
    if len(tokenizers) == 1:
        return None
    read = [
        [own.convert_ids_to_tokens(ids) for ids in tasks.encode(task, split, own)["input_ids"]]
        for own in tokenizers.values()
    ]
    return np.array([left == right for left, right in zip(*read, strict=True)])


def _tokens_of(file: str | None, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids in the lines of a text file, each as it stands and after a space; UserError if it is no text."""
    if file is None:
        return set()
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"keep_texts {file} is not text in UTF-8: {error}") from error
    encoded: Any = tokenizer([text for line in lines for text in (line, f" {line}")])["input_ids"] if lines else []
    return {index for ids in encoded for index in ids}
