"""What several stages do alike."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import interfaces, loading, models, naming, tasks, weights
from ..errors import UserError
from ..evaluation import inputs, parity
from ..evaluation.inputs import Logits
from ..evaluation.parity import Gate, Parity
from ..interfaces import examination
from ..progress import tell
from ..store import outputs
from ..store.manifest import ExportManifest
from ..tasks import Collator, Spec

GATE_ROWS = 64


def tokenizer_of(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer saved in a stage folder; UserError if it is missing or damaged."""
    loading.require_no_code(folder, "no stage wrote it so; write the folder again")
    try:
        return loading.tokenizer_of(folder)
    except UserError:
        raise
    except Exception as error:  # tokenizers raises Exception itself
        models.config_of(folder)  # it reads that, too, which may be what is damaged
        raise UserError(f"the tokenizer in {folder} is missing or damaged; write the folder again") from error


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save the tokenizer without the padding and truncation of its last call, so that equal runs give equal files."""
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.backend_tokenizer.no_truncation()
    tokenizer.save_pretrained(folder)


def without_paths(manifest: ExportManifest) -> ExportManifest:
    """What an export says of itself where it leaves this machine: names stand where paths do."""
    parent, task = manifest.parent, manifest.task
    return manifest.model_copy(
        update={
            "base": naming.named(manifest.base),
            "task": task.model_copy(update={"data": naming.named(task.data)}),
            "config": naming.named_options(manifest.config),
            "parent": parent and parent.model_copy(update={"path": f"../{Path(parent.path).name}"}),
        }
    )


class GateRows:
    """The first rows of a split, on which the gates compare PyTorch models by what they answer."""

    def __init__(self, task: Spec, rows: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        self._task = tasks.of(task)
        chosen = rows.select(range(min(GATE_ROWS, len(rows))))
        self._batches = inputs.padded_batches(chosen, self._task.collator(tokenizer), 16)

    def logits(self, model: PreTrainedModel) -> list[Logits]:
        """`model`'s logits, batch by batch."""
        forward = parity.torch_forward(model)
        return [self._task.answering(forward(batch), batch) for batch in self._batches]

    def compare(self, gate: Gate, reference: list[Logits], candidate: list[Logits]) -> Parity:
        """Compare the logits of two models; GateError if they differ too much."""
        return parity.passed(gate, reference, candidate, labelled=self._task.one_of_several)

    def require_same(self, gate: Gate, reference: list[Logits], model: PreTrainedModel) -> Parity:
        """As `compare`, of a model with the logits of what it was made from."""
        return self.compare(gate, reference, self.logits(model))

    def require_reload(self, saved: list[Logits], model: PreTrainedModel, load: Callable[[], PreTrainedModel]) -> None:
        """The reload gate, of a saved `model` that gave these logits; its weights go before the others come."""
        weights.release(model)
        self.require_same(parity.RELOAD, saved, load())


def tell_read(**splits: Any) -> None:
    """Say in a line which columns of each encoded split were read, and how many rows there are."""
    for split, rows in splits.items():
        tell(f"read {split}: {rows.info.description}, {len(rows):,} rows")


def validation_metrics(
    task: Spec, model: PreTrainedModel, rows: Any, collator: Collator, batch_size: int
) -> dict[str, float]:
    """The metrics of a PyTorch model that one forward pass over encoded rows gives, the task's own first.

    What the task fits to the validation split, a threshold say, goes into the model's config.
    """
    exam = interfaces.of(model.config.model_type).examine_quickly(task, rows, collator, batch_size)
    predicted, logits = exam.answers(examination.subject_of(model))
    if fitted := tasks.of(task).fitted(logits, exam.truth):
        model.config.update(fitted)
        predicted = tasks.of(task).predictions(task, logits, rows, model.config)
    return {name: metric.value(predicted, exam.truth) for name, metric in exam.metrics.items()}


def measured_here(path: Path, key: dict[str, Any]) -> bool:
    """Whether `path` holds a result with `key`; says so if what it holds is of another `machine` or other `versions`.

    A key without the two, of a result that depends on neither, is compared alone.
    """
    if outputs.has_result(path, key):
        return True
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        before = json.loads(path.read_text(encoding="utf-8"))["key"]
        elsewhere = [
            f"{what} ({changes})"
            for name, what in (
                ("machine", "on another machine"),
                ("versions", "with other versions"),
                ("readers", "with other readers"),
            )
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
