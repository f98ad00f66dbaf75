"""ONNX folder of a decoder and prompts → texts, as they are written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase, TextStreamer, set_seed

from .. import tasks
from ..configs import GenerateConfig
from ..errors import UserError
from ..evaluation import decoding, session
from ..evaluation.generator import OnnxGenerator
from ..store.manifest import ExportManifest
from ..tasks import generation
from . import common
from .export import artifacts

Told = Callable[[str], None]
"""Takes a piece of a text as soon as it is written."""


def generate(folder: Path, sources: list[str], config: GenerateConfig, tell: Told | None = None) -> list[str]:
    """What the model in `folder` writes to each source, put into the prompt of its training, in their order.

    `tell` is given each text piece by piece, as far as the search allows: beams are told at their end. UserError for a
    folder that does not write, or a source without a text.
    """
    session.runtime()
    manifest = ExportManifest.read(folder)
    if tasks.of(manifest.task).head != "language":
        raise UserError(f"{folder} answers {manifest.task.name} and does not write; use the bundle's predict.py")
    there = artifacts(folder, manifest)
    precision = config.precision or next(iter(there))
    if precision not in there:
        raise UserError(f"{folder} has no {precision} artifact, only {', '.join(there)}")
    tokenizer = common.tokenizer_of(folder)
    prompts = generation.tokens_of(manifest.task, sources, tokenizer)
    if config.temperature:
        set_seed(config.seed)
    with OnnxGenerator(there[precision], threads=config.threads) as model:
        if tell is not None and config.beams == 1:
            return [_told(model, prompt, config, tokenizer, tell) for prompt in prompts]
        texts = decoding.generate(model, prompts, config, tokenizer, config.batch_size)
        if tell is not None:
            for text in texts:
                tell(f"{text}\n")
        return texts


def _told(model: Any, prompt: list[int], config: GenerateConfig, tokenizer: PreTrainedTokenizerBase, tell: Told) -> str:
    (text,) = decoding.generate(model, [prompt], config, tokenizer, 1, _Teller(tokenizer, tell))
    tell("\n")
    return text


class _Teller(TextStreamer):
    """Hands on what can no longer change."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, tell: Told) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        self._tell = tell

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Called by the streamer with each piece."""
        self._tell(text)
