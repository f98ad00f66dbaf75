import pytest
import torch
from transformers import Trainer, TrainingArguments

from dsee_compress import digests, pretrained, tasks
from dsee_compress.adapters import model as adapters
from dsee_compress.configs import FinetuneConfig
from dsee_compress.errors import UserError
from dsee_compress.store import mark
from dsee_compress.tasks.text import IGNORED
from dsee_compress.training import callbacks, trainer

from ..fixtures import decoders

CLASSIFICATION = tasks.get("classification")


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def prepare(folder, data, **options):
    config = FinetuneConfig(model=str(folder), data=str(data), rank=2, sparse=3, batch_size=32, **options)
    task = tasks.describe(str(data), config)
    model, tokenizer = pretrained.load(str(folder), task, config.seed)
    adapters.insert(model, config)
    return model, tasks.encode(task, "train", tokenizer), CLASSIFICATION.collator(tokenizer), config


def weights(model):
    return {name: tensor.clone() for name, tensor in adapters.adapter_tensors(model).items()}


@pytest.mark.parametrize("when", ["while a checkpoint is written", "after a step of the third epoch"])
def test_resumed_training_is_bit_equal_to_undisturbed_training(bert, data, tmp_path, monkeypatch, when):
    model, rows, collator, config = prepare(bert, data)
    trainer.train(model, CLASSIFICATION, rows, collator, config, 4, tmp_path / "whole", "")
    undisturbed = weights(model)

    model, rows, collator, config = prepare(bert, data)
    with monkeypatch.context() as patch:
        if when.startswith("while"):
            patch.setattr(callbacks.CheckpointMarker, "on_save", _killer(2))
        else:
            patch.setattr(callbacks.RichProgress, "on_step_end", _killer(19))
        with pytest.raises(Killed):
            trainer.train(model, CLASSIFICATION, rows, collator, config, 4, tmp_path / "cut", "")
    model, rows, collator, config = prepare(bert, data)
    result = trainer.train(model, CLASSIFICATION, rows, collator, config, 4, tmp_path / "cut", "")
    resumed = weights(model)
    assert result["steps"] == 32
    assert all(torch.equal(tensor, undisturbed[name]) for name, tensor in resumed.items())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("family", decoders.FAMILIES)
def test_the_loss_of_targets_is_that_of_all_logits_and_scores_fewer(family, smoothing, tmp_path):
    """Against transformers' own Trainer on the whole batch, gradients too; its smoothing sums in fp32."""
    torch.manual_seed(0)
    tokens = torch.randint(1, decoders.VOCABULARY, (3, 14))
    labels = tokens.clone()
    for row, prompt in enumerate((6, 9, 7)):
        labels[row, :prompt] = IGNORED
    labels[1, 12:] = IGNORED
    batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}
    losses, gradients, scored = [], [], []
    for kind in (Trainer, trainer.DseeTrainer):
        model = decoders.whole(family).double()
        arguments = TrainingArguments(str(tmp_path), label_smoothing_factor=smoothing, report_to="none", use_cpu=True)
        built = kind(model, arguments)
        built.trained_on = tasks.get("generation").trained_on
        loss, outputs = built.compute_loss(model, dict(batch), return_outputs=True)
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
        scored.append(outputs["logits"].shape[1])
    assert scored == [14, 9]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-8)


def _killer(calls: int):
    seen = []

    def on_event(self, args, state, control, **kwargs):
        seen.append(1)
        if len(seen) == calls:
            raise Killed
        if isinstance(self, callbacks.CheckpointMarker):
            original(self, args, state, control, **kwargs)

    original = callbacks.CheckpointMarker.on_save
    return on_event


def test_a_checkpoint_without_its_mark_is_not_resumed_from(tmp_path):
    assert callbacks.last_whole_checkpoint(tmp_path) == (None, 0.0)
    for step, whole in ((9, True), (20, True), (100, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if whole:
            (tmp_path / f"checkpoint-{step}" / "state").write_text("x")
            digest = digests.sha256(tmp_path / f"checkpoint-{step}" / "state")
            mark.write(tmp_path / f"checkpoint-{step}", {"state": digest}, step / 10)
    assert callbacks.last_whole_checkpoint(tmp_path) == (str(tmp_path / "checkpoint-20"), 2.0)


def test_same_seed_same_weights_other_seed_other_weights(bert, data, tmp_path):
    results = []
    for index, seed in enumerate((0, 0, 1)):
        model, rows, collator, config = prepare(bert, data, seed=seed)
        trainer.train(model, CLASSIFICATION, rows, collator, config, 1, tmp_path / str(index), "")
        results.append(weights(model))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    assert not torch.equal(results[0]["classifier.weight"], results[2]["classifier.weight"])


def test_bfloat16_on_the_cpu_trains_to_about_the_same(bert, data, tmp_path):
    accuracies = []
    for precision in ("fp32", "bf16"):
        model, rows, collator, config = prepare(bert, data, mixed_precision=precision, learning_rate=1e-2)
        result = trainer.train(model, CLASSIFICATION, rows, collator, config, 4, tmp_path / precision, "")
        assert result["precision"] == precision
        accuracies.append(result["loss"])
    assert accuracies[0] == pytest.approx(accuracies[1], rel=0.1)


def test_checkpoints_hold_what_is_trained_and_no_more(bert, data, tmp_path):
    from safetensors import safe_open

    model, rows, collator, config = prepare(bert, data)
    trainer.train(model, CLASSIFICATION, rows, collator, config, 1, tmp_path, "")
    with safe_open(next(tmp_path.glob("checkpoint-*/model.safetensors")), "pt") as file:
        assert set(file.keys()) == {name for name, p in model.named_parameters() if p.requires_grad}


def test_devices_and_precisions():
    assert trainer.resolve_device("cpu") == "cpu"
    assert trainer.resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert trainer.resolve_precision("auto", "cpu") == "fp32"
    with pytest.raises(UserError, match="fp16 trains on CUDA only"):
        trainer.resolve_precision("fp16", "cpu")


def test_mixed_precision_ends_with_its_training(bert, data, tmp_path):
    """Neither the model's forward pass nor the next training of the process stays in bf16."""
    model, rows, collator, config = prepare(bert, data, mixed_precision="bf16")
    trainer.train(model, CLASSIFICATION, rows, collator, config, 1, tmp_path / "bf16", "")
    batch = collator([{k: v for k, v in rows[i].items() if k != "labels"} for i in range(4)])
    with torch.no_grad():
        assert torch.equal(model(**batch).logits, type(model).forward(model, **batch).logits)
    model, rows, collator, config = prepare(bert, data)
    trainer.train(model, CLASSIFICATION, rows, collator, config, 1, tmp_path / "after", "")
    after = weights(model)
    model, rows, collator, config = prepare(bert, data, mixed_precision="fp32")
    trainer.train(model, CLASSIFICATION, rows, collator, config, 1, tmp_path / "again", "")
    with torch.no_grad():
        assert model(**batch).logits.dtype == torch.float32
    assert all(torch.equal(tensor, after[name]) for name, tensor in weights(model).items())


def test_several_cards_are_no_data_parallel(tmp_path, monkeypatch):
    from transformers import TrainingArguments

    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: 4))
    arguments = trainer._OneDevice(output_dir=str(tmp_path), use_cpu=True, per_device_train_batch_size=8)
    assert (arguments.n_gpu, arguments.train_batch_size) == (1, 8)
