"""A BERT whose tokenizer gives no token types, from training to the device."""

import random

import numpy as np
import torch
from transformers import AutoTokenizer

import dsee_compress
from dsee_compress import architectures
from dsee_compress.adapters import model as adapters
from dsee_compress.bundling import predict
from dsee_compress.evaluation import parity, session
from dsee_compress.evaluation.inputs import random_batches

from ..fixtures import graphs, models
from ..pretrained.test_fit import PAIR, word_pieces, write


def test_a_bert_whose_tokenizer_gives_no_token_types(tmp_path):
    """Zeros all the way, also for the second text of a pair; the backend would call it type 1."""
    tokenizer = word_pieces(model_input_names=["input_ids", "attention_mask"])
    folder, draw = write(tmp_path / "model", "bert", tokenizer), random.Random(1)
    for split, count in (("train", 32), ("validation", 16)):
        (tmp_path / "data").mkdir(exist_ok=True)
        models.write_jsonl(
            tmp_path / "data" / f"{split}.jsonl",
            [
                {
                    "sentence1": " ".join(draw.choices(models._PLAIN, k=1 + index % 5)),
                    "sentence2": draw.choice(models._GOOD if index % 2 else models._BAD),
                    "label": "ab"[index % 2],
                }
                for index in range(count)
            ],
        )
    tuned = dsee_compress.finetune(
        model=str(folder), data=str(tmp_path / "data"), output=tmp_path / "tuned", epochs=1, max_length=32
    )
    exported = dsee_compress.export(tuned, output=tmp_path / "onnx", precision="fp32,int8")
    dsee_compress.validate(exported, max_drop=1.0, max_compression_drop=1.0)
    bundle = dsee_compress.bundle(exported, output=tmp_path / "bundle", precision="fp32")

    model, pairs = predict.load(bundle), [PAIR, ("lovely", "some town and it felt rather cold")]
    found = model.answer([model.encode(pair) for pair in pairs])
    reference, theirs = adapters.load_merged(tuned), AutoTokenizer.from_pretrained(folder)
    fed = theirs(*map(list, zip(*pairs, strict=True)), padding=True, return_tensors="pt")
    assert [*fed] == ["input_ids", "attention_mask"]
    with torch.inference_mode():
        wanted = reference(**fed).logits.softmax(-1).max(-1)
    np.testing.assert_allclose([answer["score"] for answer in found], wanted.values, atol=1e-5)


def test_a_portable_graph_asks_for_what_the_tokenizer_gives(tmp_path):
    model = architectures.from_config(models.build("bert").config).eval()
    graphs.write(model, tmp_path / "model.onnx", "portable", 23, given=["input_ids", "attention_mask"])
    (fed,) = random_batches([(3, 31)], models.VOCABULARY, ["input_ids", "attention_mask"])
    with session.Session(tmp_path / "model.onnx", threads=1) as live:
        assert live.inputs == [*fed]
        parity.passed(parity.EXPORT, [parity.torch_forward(model)(fed)], [live.forward(fed)])
