"""PEFT LoRA adapter → adapter folder, and back."""

from pathlib import Path

import torch

from .. import architectures, data, digests, distributed, pretrained, tasks
from ..adapters import model as adapters
from ..adapters import peft
from ..configs import ImportPeftConfig
from ..errors import UserError
from ..progress import step
from ..store import folders, lock, outputs, watch
from ..store.manifest import FinetuneManifest
from . import common, finetune

UNTRAINED = {"seconds": 0.0, "steps": 0, "device": "cpu", "precision": "fp32"}


@distributed.in_main
@lock.exclusive("output")
def import_peft(source: Path, config: ImportPeftConfig, output: Path, overwrite: bool = False) -> Path:
    """Write the LoRA adapter in `source` and the model that it stands on to `output`, as `finetune` would."""
    lora = peft.read(source)
    location = pretrained.locate(config.model)
    data_location = data.locate(config.data)
    base = pretrained.load_config(location, config.task, trusted=config.trust_remote_code)
    update = peft.describe(lora, architectures.get(base.model_type), base.num_hidden_layers)
    resolved = {
        **config.resolved(),
        **update.resolved(),
        "adapter": str(source.resolve()),
        "model": location,
        "data": data_location,
    }
    inputs = {
        "adapter": digests.digest([source / peft.CONFIG, source / peft.WEIGHTS]),
        "model": pretrained.fingerprint(location, config.model_sha256),
        "data": data.fingerprint(data_location, "train", "validation"),
    }
    if outputs.up_to_date(output, "finetune", resolved, inputs, overwrite):
        return output
    with step("read the adapter and the data"):
        task = tasks.describe(data_location, config)
        model, tokenizer = pretrained.load(location, task, seed=0, trusted=config.trust_remote_code)
        architectures.require_length(model.config, "max_length", config.max_length)
        validation = tasks.encode(task, "validation", tokenizer)
        data.require_unchanged(inputs["data"], data_location, "train", "validation")
        common.tell_read(validation=validation)
        try:
            missing = peft.put(lora, model, update)
        except ValueError as error:
            raise UserError(f"the adapter does not fit the model: {error}") from error
        if missing:
            other, _ = pretrained.load(location, task, seed=1, trusted=config.trust_remote_code)
            random = [name for name in missing if not torch.equal(model.state_dict()[name], other.state_dict()[name])]
            if random:
                raise UserError(f"neither {source} nor the model {config.model!r} holds {random[0]!r} of the task head")
    with folders.writing(output, overwrite) as folder, step("validate and save"):
        finetune.write(
            folder,
            model.eval(),
            tokenizer,
            validation,
            config.batch_size,
            UNTRAINED,
            config=resolved,
            base=config.model,
            task=task,
            inputs=inputs,
            seed=0,
        )
    return output


@distributed.in_main
@lock.exclusive("output")
@watch.steady("source")
def export_peft(source: Path, output: Path, overwrite: bool = False) -> Path:
    """Write the updates and the task head in the adapter folder `source` to `output`, for PEFT to load."""
    manifest = FinetuneManifest.read(source)
    if output.exists() and not (overwrite and (output / peft.CONFIG).is_file()):
        raise UserError(f"{output} already exists; choose another output, or use --overwrite to replace an adapter")
    with step("write the adapter"):
        model = adapters.load(source)
        watch.require_steady()
        with folders.writing(output, overwrite) as folder:
            peft.write(model, adapters.update_of(manifest), manifest.config["model"], folder)
    return output
