"""Text from an ONNX decoder: transformers' generation over an ONNX Runtime session."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast

from .. import architectures, models
from ..errors import UserError
from . import session
from .inputs import LOGITS_TO_KEEP

_TYPES = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16}
_NUMPY_TYPES = {torch.float32: np.float32, torch.float16: np.float16, torch.int64: np.int64}


class Memory:
    """Keys and values of all tokens so far, as generation hands them from step to step."""

    def __init__(self, tensors: list[Tensor]) -> None:
        """tensors: (batch, heads, tokens, head size), the key and the value of each layer in turn."""
        self.tensors = tensors

    def get_seq_length(self, layer: int = 0) -> int:
        """Tokens that are remembered, padding included."""
        return self.tensors[2 * layer].shape[2]

    def reorder_cache(self, beams: Tensor) -> None:
        """Go on with these rows of the batch, of which some may stand twice: what a beam search kept."""
        self.tensors = [tensor.index_select(0, beams) for tensor in self.tensors]

    def batch_repeat_interleave(self, times: int) -> None:
        """Let every row of the batch stand so many times, one after the other."""
        self.tensors = [tensor.repeat_interleave(times, dim=0) for tensor in self.tensors]


class OnnxGenerator(GenerationMixin):
    """A decoder's ONNX file that generates as a transformers model does: greedy, sampling, beams, streaming.

    The file stands in a folder with `config.json` and `generation_config.json`; head counts and sizes are read from
    the file's inputs. `with` frees the session, and ends its threads, at the end of the block.
    """

    main_input_name = "input_ids"
    base_model_prefix = ""
    hf_quantizer = None
    _is_stateful = False

    def __init__(self, path: Path, provider: str = "cpu", threads: int | None = None) -> None:
        """Load `path`. UserError if the file is damaged or remembers nothing, or the provider is not there."""
        home = models.home_of(path)
        self.config = models.config_of(home)
        self.generation_config = _generation_config(home, self.config)
        self.device = torch.device(provider)
        self.dtype = torch.float32
        self._session = session.load(path, provider, threads)
        self._past = {entry.name: entry for entry in self._session.get_inputs() if entry.name.startswith("past_")}
        if not self._past:
            raise UserError(f"{path} takes no keys and values of earlier tokens; export it again")
        optional = [entry.name for entry in self._session.get_overridable_initializers()]
        known = [LOGITS_TO_KEEP] if LOGITS_TO_KEEP in optional else []
        self._inputs = [*(entry.name for entry in self._session.get_inputs()), *known]
        self._outputs = ["logits", *(name.replace("past_key_values", "present") for name in self._past)]
        self._longest = architectures.longest_input(self.config)

    @property
    def bytes_per_token(self) -> int:
        """What it remembers of a token, of one sequence."""
        return sum(tensor.nbytes for tensor in (self._empty(entry, 1, 1) for entry in self._past.values()))

    @property
    def heads(self) -> list[int]:
        """Heads whose keys it remembers, a layer."""
        return [entry.shape[1] for name, entry in self._past.items() if name.endswith(".key")]

    def can_generate(self) -> bool:
        """That it can: transformers asks."""
        return True

    def is_remote_code(self) -> bool:
        """That it is code of this package: transformers asks."""
        return False

    def get_experts_implementation(self) -> dict[str, str]:
        """None: transformers 5 asks what a mixture of experts runs on."""
        return {}

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        past_key_values: Memory | None = None,
        attention_mask: Tensor | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """What `forward` is given at a step, of all tokens so far, (batch, past + tokens): transformers asks.

        Its own does it for any model, and looks into signatures at every token.
        """
        read = past_key_values.get_seq_length() if past_key_values is not None else 0
        return {
            "input_ids": input_ids[:, read:].contiguous(),
            "attention_mask": attention_mask,
            "past_key_values": past_key_values,
            **{name: options[name] for name in ("use_cache", "logits_to_keep") if name in options},
        }

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Memory | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Logits (batch, tokens, vocabulary) of `input_ids` (batch, tokens), and what is remembered after them.

        logits_to_keep: of so many of the last tokens alone; 0 of all.

        past_key_values: what is remembered of earlier tokens. use_cache: False to remember nothing.
        attention_mask: (batch, past + tokens), 0 for padding; none if not given. position_ids: (batch, tokens);
        counted from the mask if not given. UserError if there are no tokens, or more than the model reads.
        """
        batch, tokens = input_ids.shape
        past = past_key_values.tensors if past_key_values is not None else self._nothing(batch)
        total = past[0].shape[2] + tokens
        if attention_mask is None:
            attention_mask = torch.ones((batch, total), dtype=torch.int64)
        if position_ids is None:
            position_ids = (attention_mask.cumsum(-1) - 1).clamp(min=0)[:, -tokens:]
        self._require_readable(tokens, total, position_ids)
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids}
        kept = min(logits_to_keep, tokens) or tokens
        scored = kept if LOGITS_TO_KEEP in self._inputs else tokens
        given |= {LOGITS_TO_KEEP: torch.tensor([scored]), **dict(zip(self._past, past, strict=True))}
        logits, present = self._run(given, batch, scored, total)
        memory = None if use_cache is False else Memory(present)
        return CausalLMOutputWithPast(logits=logits[:, -kept:], past_key_values=memory)

    __call__ = forward

    def _nothing(self, batch: int) -> list[Tensor]:
        """What is remembered of no tokens."""
        return [self._empty(entry, batch, 0) for entry in self._past.values()]

    def _empty(self, entry: Any, batch: int, tokens: int) -> Tensor:
        _, heads, _, size = entry.shape
        return torch.empty((batch, heads, tokens, size), dtype=_TYPES[entry.type], device=self.device)

    def _require_readable(self, tokens: int, total: int, position_ids: Tensor) -> None:
        if not tokens:
            raise UserError("there is no token to go on from; give a prompt that is not empty")
        if total > self._longest:
            # Earlier padding takes no position; that of a prompt is read with it.
            needed = max(tokens, int(position_ids.max()) + 1)
            if needed > self._longest:
                raise UserError(
                    f"prompt and continuation come to {needed} tokens, more than the {self._longest} that the model "
                    "reads; give a shorter prompt or ask for fewer new tokens"
                )

    def _run(self, given: dict[str, Tensor], batch: int, scored: int, total: int) -> tuple[Tensor, list[Tensor]]:
        """One call of the session, which reads and writes tensors where they lie."""
        if self.device.type != "cpu":
            return self._run_bound(given, batch, scored, total)
        # Binding each tensor by itself takes longer: a tenth of the time of a small model's step.
        arrays = self._session.run(self._outputs, {name: given[name].numpy() for name in self._inputs})
        logits, *present = map(torch.from_numpy, arrays)
        return logits, present

    def _run_bound(self, given: dict[str, Tensor], batch: int, scored: int, total: int) -> tuple[Tensor, list[Tensor]]:
        """The same on a device, where what is remembered stays."""
        logits = torch.empty((batch, scored, self.config.vocab_size), device=self.device)
        present = [self._empty(entry, batch, total) for entry in self._past.values()]
        binding = self._session.io_binding()
        kept = {name: given[name].to(self.device).contiguous() for name in self._inputs}
        for name, tensor in kept.items():
            binding.bind_input(name, *_placed(tensor))
        for name, tensor in zip(self._outputs, [logits, *present], strict=True):
            binding.bind_output(name, *_placed(tensor))
        self._session.run_with_iobinding(binding)
        return logits, present

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._session = None


def _placed(tensor: Tensor) -> tuple[str, int, Any, tuple[int, ...], int]:
    """Where a tensor lies, as ONNX Runtime's binding wants it. One without elements lies nowhere, and may."""
    index = tensor.device.index or 0
    return tensor.device.type, index, _NUMPY_TYPES[tensor.dtype], tuple(tensor.shape), tensor.data_ptr()


def _generation_config(folder: Path, config: Any) -> GenerationConfig:
    if (folder / "generation_config.json").is_file():
        return GenerationConfig.from_pretrained(folder)
    return GenerationConfig.from_model_config(config)
