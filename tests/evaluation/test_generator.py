"""What transformers' generation writes over ONNX Runtime, it writes over PyTorch too."""

import threading

import onnx
import pytest
import torch
from transformers import AutoTokenizer, TextIteratorStreamer, TextStreamer

from dsee_compress.configs import DecodingConfig
from dsee_compress.errors import UserError
from dsee_compress.evaluation import decoding
from dsee_compress.evaluation.generator import OnnxGenerator
from dsee_compress.evaluation.inputs import random_prompts

from ..fixtures import decoders
from ..fixtures.decoder_stages import pruned, unequal, write_prune
from ..fixtures.graphs import write

GREEDY = {"do_sample": False, "max_new_tokens": 16, "eos_token_id": 1, "pad_token_id": 0}


@pytest.fixture(scope="module", params=decoders.FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    """A pruned decoder's config and tokenizer, and its graph."""
    folder = write_prune(family, tmp_path_factory.mktemp("generator") / "prune")
    write(pruned(family), folder / "model.onnx", "fused", 18)
    return folder


@pytest.fixture(scope="module")
def model(family):
    return pruned(family)


@pytest.fixture(scope="module")
def generator(folder):
    with OnnxGenerator(folder / "model.onnx", threads=1) as generator:
        yield generator


def prompts(batch: int, length: int, seed: int = 0) -> dict[str, torch.Tensor]:
    made = random_prompts([(batch, length)], decoders.VOCABULARY, seed=seed)[0]
    return {name: torch.as_tensor(made[name]) for name in ("input_ids", "attention_mask")}


def test_logits_are_pytorchs_at_every_step(model, generator):
    batch = prompts(3, 12)
    mask, tokens = batch["attention_mask"], batch["input_ids"]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode():
        wanted = model(**batch, position_ids=positions).logits
    real = mask == 1
    assert (generator(**batch).logits - wanted)[real].abs().max() < 1e-4
    memory = None
    for end in range(1, 13):
        answer = generator(tokens[:, end - 1 : end], mask[:, :end], past_key_values=memory)
        memory = answer.past_key_values
        assert memory.get_seq_length() == end
        difference = (answer.logits[:, 0] - wanted[:, end - 1])[real[:, end - 1]].abs().max()
        assert difference < 1e-4


@pytest.mark.parametrize("kept, found", [(1, 1), (3, 3), (12, 12), (20, 12), (0, 12)])
def test_logits_of_the_last_tokens_alone(generator, kept, found):
    batch = prompts(3, 12)
    whole, some = generator(**batch), generator(**batch, logits_to_keep=kept)
    assert some.logits.shape == (3, found, decoders.VOCABULARY)
    torch.testing.assert_close(some.logits, whole.logits[:, -found:], atol=1e-5, rtol=0)
    for left, right in zip(some.past_key_values.tensors, whole.past_key_values.tensors, strict=True):
        assert torch.equal(left, right)


def test_generation_scores_the_last_token_of_a_prompt_alone(generator, monkeypatch):
    scored = []
    run = generator._run
    monkeypatch.setattr(generator, "_run", lambda *given: scored.append(given[2]) or run(*given))
    generator.generate(**prompts(2, 9), **GREEDY | {"eos_token_id": None})
    assert scored == [1] * GREEDY["max_new_tokens"]


def test_weights_that_could_be_given_are_not_asked_for(folder, generator, tmp_path):
    """Other exporters list every weight among the inputs."""
    whole = onnx.load(folder / "model.onnx")
    listed = {entry.name for entry in whole.graph.input}
    for weight in whole.graph.initializer:
        if weight.name not in listed:
            whole.graph.input.append(onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
    onnx.save(whole, tmp_path / "model.onnx")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    batch = prompts(2, 9)
    with OnnxGenerator(tmp_path / "model.onnx", threads=1) as other:
        torch.testing.assert_close(other(**batch).logits, generator(**batch).logits, atol=1e-5, rtol=0)


def test_bound_to_a_device_a_call_gives_the_same(generator, monkeypatch):
    """As on CUDA; here the device is the CPU."""
    batch = prompts(2, 9)
    plain = [generator(**batch, logits_to_keep=2), generator.generate(**batch, **GREEDY | {"num_beams": 3})]
    monkeypatch.setattr(generator, "_run", generator._run_bound)
    bound = [generator(**batch, logits_to_keep=2), generator.generate(**batch, **GREEDY | {"num_beams": 3})]
    assert torch.equal(plain[0].logits, bound[0].logits) and torch.equal(plain[1], bound[1])
    pairs = zip(plain[0].past_key_values.tensors, bound[0].past_key_values.tensors, strict=True)
    assert all(torch.equal(left, right) for left, right in pairs)


@pytest.mark.parametrize("batches, search", [(25, {}), (13, {"num_beams": 5, "length_penalty": 0.9})])
def test_texts_of_many_prompts_are_pytorchs(model, generator, batches, search):
    """A hundred prompts greedily, fifty in beams, padded on the left in batches."""
    for seed in range(batches):
        batch = prompts(4, 3 + seed, seed)
        ours, theirs = (each.generate(**batch, **GREEDY | search) for each in (generator, model))
        assert torch.equal(ours, theirs)


def test_beams_read_their_prompt_once_and_write_what_transformers_writes(folder, model, generator, monkeypatch):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.eos_token_id}
    search = {"num_beams": 4, "length_penalty": 0.9, "max_new_tokens": 12, "do_sample": False}
    sources = [[7], [9, 4, 12], [3] * 11, [8, 5, 6, 7, 2, 9]]
    wanted = []
    for source in sources:
        written = model.generate(input_ids=torch.tensor([source]), **search, **ends)[0, len(source) :]
        wanted.append(tokenizer.decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip())
    settings = DecodingConfig(beams=4, length_penalty=0.9, max_new_tokens=12)
    read = []
    run = generator._run
    monkeypatch.setattr(generator, "_run", lambda *given: read.append(given[0]["input_ids"].shape) or run(*given))
    for each in (model, generator):
        assert decoding.generate(each, sources, settings, tokenizer, batch_size=3) == wanted
        assert decoding.generate(each, sources, settings, tokenizer, batch_size=1) == wanted
    assert [tuple(shape) for shape in read[:2]] == [(3, 10), (12, 1)]


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 3},
        {"num_beams": 4, "num_return_sequences": 3, "length_penalty": 0.5, "early_stopping": True},
        {"use_cache": False},
        {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2},
    ],
    ids=lambda options: " ".join(options),
)
def test_options_do_what_they_do_in_pytorch(model, generator, options):
    batch = prompts(3, 9)
    both = GREEDY | options
    assert torch.equal(generator.generate(**batch, **both), model.generate(**batch, **both))


def test_a_seed_draws_what_it_draws_in_pytorch(model, generator):
    options = GREEDY | {"do_sample": True, "temperature": 0.8, "top_p": 0.9, "num_return_sequences": 2}
    drawn = []
    for which in (model, generator, generator):
        torch.manual_seed(5)
        drawn.append(which.generate(**prompts(2, 7), **options))
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[1], drawn[2])


def test_prompts_padded_on_the_left_are_answered_as_they_are_alone(generator):
    batch = prompts(5, 14)
    together = generator.generate(**batch, **GREEDY | {"eos_token_id": None})
    for tokens, mask, text in zip(*batch.values(), together, strict=True):
        alone = generator.generate(tokens[mask == 1][None], **GREEDY | {"eos_token_id": None})
        assert torch.equal(alone[0, -16:], text[-16:])


def test_text_streams(folder, generator, capsys):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = prompts(1, 6)
    whole = generator.generate(**batch, **GREEDY)[0, 6:]
    wanted = tokenizer.decode(whole)
    generator.generate(**batch, **GREEDY, streamer=TextStreamer(tokenizer, skip_prompt=True))
    assert capsys.readouterr().out.split() == wanted.split()
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True)
    writer = threading.Thread(target=generator.generate, kwargs={**batch, **GREEDY, "streamer": streamer})
    writer.start()
    pieces = list(streamer)
    writer.join()
    assert len(pieces) > 2 and "".join(pieces).split() == wanted.split()


def test_what_is_remembered_is_counted_from_the_graph(family, generator):
    assert generator.bytes_per_token == 4 * 2 * decoders.HEAD_SIZE * sum(unequal(family).head_counts)


def test_a_prompt_that_is_empty_or_too_long_is_refused(generator):
    with pytest.raises(UserError, match="no token to go on from; give a prompt that is not empty"):
        generator(torch.zeros((1, 0), dtype=torch.int64))
    with pytest.raises(UserError, match="no token to go on from; give a prompt that is not empty"):
        generator.generate(torch.zeros((1, 0), dtype=torch.int64), **GREEDY)
    with pytest.raises(UserError, match="come to 65 tokens, more than the 64 that the model reads; give a shorter"):
        generator(torch.ones((1, decoders.POSITIONS + 1), dtype=torch.int64))
    with pytest.raises(UserError, match="prompt and continuation come to 65 tokens"):
        generator.generate(**prompts(1, 60), **GREEDY | {"eos_token_id": None})


def test_padding_takes_no_position(generator):
    """A short row goes on behind the context's end, which the tokens of the batch have passed."""
    batch = prompts(1, decoders.POSITIONS)
    batch["attention_mask"][:, :30] = 0
    alone = generator.generate(batch["input_ids"][:, 30:], **GREEDY | {"eos_token_id": None})
    padded = generator.generate(**batch, **GREEDY | {"eos_token_id": None})
    assert padded.shape[1] == decoders.POSITIONS + 16 and torch.equal(padded[:, 30:], alone)


def test_a_damaged_file_and_a_graph_without_memory_are_refused(folder, tmp_path):
    for name in ("config.json", "model.onnx"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    opened = onnx.load(tmp_path / "model.onnx")
    (tmp_path / "short.onnx").write_bytes((folder / "model.onnx").read_bytes()[:5000])
    with pytest.raises(UserError, match=r"ONNX Runtime cannot load .*short\.onnx"):
        OnnxGenerator(tmp_path / "short.onnx")
    with pytest.raises(UserError, match=r"ONNX Runtime cannot load .*gone\.onnx"):
        OnnxGenerator(tmp_path / "gone.onnx")
    identity = onnx.helper.make_node("Identity", ["input_ids"], ["logits"])
    graph = onnx.helper.make_graph([identity], "forgetful", opened.graph.input[:1], [_like(opened.graph.input[0])])
    onnx.save(onnx.helper.make_model(graph, opset_imports=opened.opset_import, ir_version=9), tmp_path / "model.onnx")
    with pytest.raises(UserError, match="takes no keys and values of earlier tokens; export it again"):
        OnnxGenerator(tmp_path / "model.onnx")
    with pytest.raises(UserError, match="provider cuda was asked for"):
        OnnxGenerator(folder / "model.onnx", provider="cuda")


def _like(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    named = onnx.ValueInfoProto()
    named.CopyFrom(value)
    named.name = "logits"
    return named
