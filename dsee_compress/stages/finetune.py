"""pretrained model + data → adapter folder (DSEE step I)."""

from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import architectures, data, pretrained, tasks
from ..adapters import model as adapters
from ..configs import FinetuneConfig
from ..errors import UserError
from ..progress import step
from ..pruning import selection
from ..store import folders, lock, outputs, resume, versions
from ..store.manifest import FinetuneManifest
from ..store.stage_metrics import Fed, FinetuneMetrics, Training
from ..training import losses, trackers, trainer
from . import common


@lock.exclusive("output")
def finetune(config: FinetuneConfig, output: Path, overwrite: bool = False) -> Path:
    """Train U, V, S2 and the task head on frozen weights; write them with what they stand on to `output`."""
    location = pretrained.locate(config.model)
    data_location = data.locate(config.data)
    resolved = config.resolved() | {"model": location, "data": data_location}
    inputs = {
        "model": pretrained.fingerprint(location, config.model_sha256),
        "data": data.fingerprint(data_location, "train", "validation"),
    }
    if outputs.up_to_date(output, "finetune", resolved, inputs, overwrite):
        return output
    trainer.resolve_precision(config.mixed_precision, trainer.resolve_device(config.device))
    trackers.require(config.report_to)
    examined = pretrained.load_config(location, config.task, trusted=config.trust_remote_code)
    updates = adapters.shapes(config, examined)

    with step("read the data"):
        task = tasks.describe(data_location, config)
        model, tokenizer = pretrained.load(location, task, config.seed, trusted=config.trust_remote_code)
        architectures.require_length(model.config, "max_length", config.max_length)
        rows = tasks.encode(task, "train", tokenizer)
        validation = tasks.encode(task, "validation", tokenizer)
        data.require_unchanged(inputs["data"], data_location, "train", "validation")
        common.tell_read(train=rows, validation=validation)
    with step(f"find Ω in {len(updates)} weights"):
        try:
            adapters.insert(model, config)
        except ValueError as error:
            raise UserError(f"the update does not fit the model: {error}") from error

    kind = tasks.of(task)
    collator = kind.collator(tokenizer)
    with folders.writing(output, overwrite) as folder:
        state = resume.state(output, {"config": resolved, **inputs})
        penalty = losses.slimming(model, config.slimming) if config.slimming else None
        logs = trackers.folder_of(output)
        training = trainer.train(model, kind, rows, collator, config, config.epochs, state, "fine-tune", penalty, logs)
        with step("validate and save"):
            write(
                folder,
                model,
                tokenizer,
                validation,
                config.batch_size,
                training,
                config=resolved,
                base=config.model,
                task=task,
                inputs=inputs,
                seed=config.seed,
            )
    resume.discard(output)
    return output


def write(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    validation: Any,
    batch_size: int,
    training: dict[str, Any],
    **described: Any,
) -> None:
    """Save a model with its updates, tokenizer and manifest, whose other fields are `described`, into `folder`.

    `model` is used up by it. Raises GateError unless what is loaded from it gives the same logits to the bit.
    """
    collator = tasks.of(described["task"]).collator(tokenizer)
    measured = common.validation_metrics(described["task"], model, validation, collator, batch_size)
    adapters.save(model, folder)
    common.save_tokenizer(tokenizer, folder)
    fed = Fed(inputs=tokenizer.model_input_names, padding=tokenizer.pad_token_id)
    manifest = FinetuneManifest(
        architecture=model.config.model_type,
        structure=selection.whole(model),
        parent=None,
        versions=versions.of_libraries(),
        metrics=FinetuneMetrics(**adapters.count(model), fed=fed, training=Training(**training), validation=measured),
        **described,
    )
    manifest.write(folder)
    gate = common.GateRows(described["task"], validation, tokenizer)
    gate.require_reload(gate.logits(model), model, partial(adapters.load, folder))
