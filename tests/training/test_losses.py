import copy

import pytest
import torch

from dsee_compress import tasks
from dsee_compress.adapters import model as adapters
from dsee_compress.training import losses, trainer

from ..adapters.test_model import randomised
from ..fixtures import decoders
from .test_trainer import prepare

CLASSIFICATION = tasks.get("classification")


def batch(size: int = 3) -> dict[str, torch.Tensor]:
    attention = (torch.arange(9) < torch.tensor([[9], [4], [1]])[:size]).long()
    return {
        "input_ids": torch.randint(5, 200, (size, 9), generator=torch.Generator().manual_seed(0)),
        "attention_mask": attention,
        "labels": torch.tensor([0, 1, 1])[:size],
    }


def test_distillation_is_zero_towards_oneself_and_the_softened_divergence_otherwise(family):
    student, teacher = randomised(family, seed=0).eval(), randomised(family, seed=5).eval()
    given = batch()
    inputs = {name: tensor for name, tensor in given.items() if name != "labels"}
    outputs = student(**inputs, output_hidden_states=True)
    assert losses.distillation(copy.deepcopy(student), CLASSIFICATION).of(given, outputs).abs().item() < 1e-6

    wanted = teacher(**inputs, output_hidden_states=True)
    p, q = (torch.softmax(logits.detach().double() / 2, -1) for logits in (wanted.logits, outputs.logits))
    divergence = float((p * (p.log() - q.log())).sum(-1).mean() * 4)
    hidden = []
    for ours, theirs in zip(outputs.hidden_states[1:], wanted.hidden_states[1:], strict=True):
        tokens = [(row, token) for row, length in enumerate((9, 4, 1)) for token in range(length)]
        apart = sum(float((ours[t] - theirs[t]).double().square().sum()) for t in tokens)
        hidden.append(apart / sum(float(theirs[t].double().square().sum()) for t in tokens))
    term = float(losses.distillation(teacher, CLASSIFICATION).of(given, outputs))
    assert term == pytest.approx(divergence + sum(hidden) / len(hidden), rel=1e-4)


def test_what_stands_in_padding_does_not_count(family):
    student, teacher = randomised(family, seed=0).eval(), randomised(family, seed=5).eval()
    term = losses.distillation(teacher, CLASSIFICATION)
    given = batch()
    changed = given | {"input_ids": torch.where(given["attention_mask"] == 1, given["input_ids"], 7)}
    found = []
    for each in (given, changed):
        inputs = {name: tensor for name, tensor in each.items() if name != "labels"}
        found.append(float(term.of(each, student(**inputs, output_hidden_states=True))))
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_distillation_of_one_logit_is_the_squared_difference():
    ours, theirs = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [1.0]])
    assert float(losses._answers(ours, theirs, 2.0)) == pytest.approx(2.5)


def test_the_slimming_penalty_is_the_sum_of_all_coefficients_sizes(family):
    model = randomised(family)
    adapters.insert_gains(model)
    penalty = losses.slimming(model, 0.5)
    gains = [layer.gain for layer in adapters.updates(model).values() if layer.gain is not None]
    with torch.no_grad():
        for gain in gains:
            gain.normal_()
    expected = 0.5 * sum(float(gain.abs().sum()) for gain in gains)
    assert float(penalty.of({}, None)) == pytest.approx(expected, rel=1e-5)


def test_the_penalty_draws_coefficients_to_zero_in_training(bert, data, tmp_path):
    shrunk = []
    for strength in (1e-6, 1.0):
        model, rows, collator, config = prepare(bert, data, slimming=strength, learning_rate=1e-2)
        trainer.train(
            model,
            CLASSIFICATION,
            rows,
            collator,
            config,
            3,
            tmp_path / str(strength),
            "",
            losses.slimming(model, strength),
        )
        gains = [layer.gain for layer in adapters.updates(model).values() if layer.gain is not None]
        shrunk.append(float(torch.cat(gains).abs().mean()))
    assert shrunk[1] < 0.9 * shrunk[0]


def test_a_student_follows_its_teacher_where_labels_are_noise(bert, data, tmp_path):
    teacher, rows, collator, config = prepare(bert, data, learning_rate=1e-2)
    trainer.train(teacher, CLASSIFICATION, rows, collator, config, 10, tmp_path / "teacher", "")
    noise = rows.map(lambda row, index: {"labels": index // 2 % 2}, with_indices=True, keep_in_memory=True)
    held = collator([{name: row[name] for name in row if name != "labels"} for row in rows.select(range(64))])
    agreement = {}
    for name, extra in (
        ("alone", None),
        ("taught", losses.distillation(adapters.merged_copy(teacher), CLASSIFICATION)),
    ):
        student, _, _, _ = prepare(bert, data, learning_rate=1e-2)
        trainer.train(student, CLASSIFICATION, noise, collator, config, 10, tmp_path / name, "", extra)
        with torch.no_grad():
            same = student(**held).logits.argmax(-1) == teacher(**held).logits.argmax(-1)
        agreement[name] = float(same.float().mean())
    assert agreement["taught"] > agreement["alone"] + 0.2


@pytest.mark.parametrize("family", decoders.FAMILIES)
def test_a_decoder_is_drawn_to_its_teacher_at_every_token_but_padding(family):
    student, teacher = decoders.build(family, seed=0), decoders.build(family, seed=5)
    given = batch() | {"input_ids": torch.randint(1, decoders.VOCABULARY, (3, 9))}
    inputs = {name: tensor for name, tensor in given.items() if name != "labels"}
    outputs, wanted = (model(**inputs, output_hidden_states=True) for model in (student, teacher))
    divergences = [
        float((p * (p.log() - q.log())).sum() * 4)
        for row, length in enumerate((9, 4, 1))
        for token in range(length)
        for p, q in [[torch.softmax(each.logits[row, token].detach().double() / 2, -1) for each in (wanted, outputs)]]
    ]
    real = given["attention_mask"].bool()
    hidden = [
        float((ours[real] - theirs[real]).square().mean() / theirs[real].square().mean())
        for ours, theirs in zip(outputs.hidden_states[1:], wanted.hidden_states[1:], strict=True)
    ]
    expected = sum(divergences) / len(divergences) + sum(hidden) / len(hidden)
    assert float(losses.distillation(teacher, tasks.get("generation")).of(given, outputs)) == pytest.approx(
        expected, rel=1e-4
    )
