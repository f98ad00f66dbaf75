"""What several stages do alike."""

import contextlib
import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import checkpoint, loading
from ..checkpoint import Task
from ..errors import UserError
from ..evaluation import inputs, parity
from ..evaluation.inputs import Batch, Logits
from ..evaluation.parity import Gate, Parity
from ..progress import tell
from . import examination
from .examination import Collator

GATE_ROWS = 64


def tokenizer_of(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer saved in a stage folder; UserError if it is missing or damaged."""
    loading.require_no_code(folder, "no stage wrote it so; write the folder again")
    try:
        return loading.tokenizer_of(folder)
    except UserError:
        raise
    except Exception as error:  # tokenizers raises Exception itself
        raise UserError(f"the tokenizer in {folder} is missing or damaged; write the folder again") from error


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save the tokenizer without the padding and truncation of its last call, so that equal runs give equal files."""
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.backend_tokenizer.no_truncation()
    tokenizer.save_pretrained(folder)


def gate_batches(rows: Any, collator: Collator) -> list[Batch]:
    """The first rows of a split as padded batches, for the gates between PyTorch models."""
    return inputs.padded_batches(rows.select(range(min(GATE_ROWS, len(rows)))), collator, 16)


def tell_read(**splits: Any) -> None:
    """Say in a line which columns of each encoded split were read, and how many rows there are."""
    for split, rows in splits.items():
        tell(f"read {split}: {rows.info.description}, {len(rows):,} rows")


def logits_of(model: PreTrainedModel, batches: list[Batch]) -> list[Logits]:
    """`model`'s logits, batch by batch."""
    forward = parity.torch_forward(model)
    return [forward(batch) for batch in batches]


def pass_gate(gate: Gate, reference: list[Logits], model: PreTrainedModel, batches: list[Batch]) -> Parity:
    """Compare `model` with the logits of what it was made from; GateError if they differ too much."""
    return parity.passed(gate, reference, logits_of(model, batches))


def validation_metrics(
    task: Task, model: PreTrainedModel, rows: Any, collator: Collator, batch_size: int
) -> dict[str, float]:
    """The metrics of a PyTorch model that one forward pass over encoded rows gives, the task's own first."""
    exam = examination.quick(task, rows, collator, batch_size)
    predicted = exam.answers(examination.subject_of(model)).predictions
    return {name: metric.value(predicted, exam.truth) for name, metric in exam.metrics.items()}


def measured_here(path: Path, key: dict[str, Any]) -> bool:
    """Whether `path` holds a result with `key`; says so if what it holds is of another `machine` or other `versions`.

    A key without the two, of a result that depends on neither, is compared alone.
    """
    if checkpoint.has_result(path, key):
        return True
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        before = json.loads(path.read_text(encoding="utf-8"))["key"]
        elsewhere = [
            f"{what} ({changes})"
            for name, what in (("machine", "on another machine"), ("versions", "with other versions"))
            if name in key and (changes := _changes(before.get(name, {}), key[name]))
        ]
        if elsewhere:
            tell(
                f"{path.name} was measured before {' and '.join(elsewhere)}; measuring here",
            )
    return False


def _changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    if not before:
        return "which the file does not name"
    return ", ".join(
        f"{name.replace('_', ' ')} was {_plainly(before.get(name))}, is {_plainly(now.get(name))}"
        for name in {**now, **before}
        if before.get(name) != now.get(name)
    )


def _plainly(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
