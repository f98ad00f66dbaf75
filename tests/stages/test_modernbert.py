"""ModernBERT: on the whole way, and its graphs beside PyTorch, whatever its head reads."""

import json
from collections import Counter

import pytest
import torch
from transformers import AutoTokenizer

import dsee_compress
from dsee_compress import architectures, interfaces
from dsee_compress.evaluation import parity, shares
from dsee_compress.evaluation.inputs import random_batches
from dsee_compress.evaluation.session import Session
from dsee_compress.exporting import files
from dsee_compress.runtime import answers, tagging
from dsee_compress.store.manifest import Manifest

from ..evaluation.test_shares import in_fp32
from ..fixtures import models
from ..fixtures.graphs import resized
from .test_kin import require_exported, write_pruned
from .test_token_classification import write_tagged

FAMILY = "modernbert"


@pytest.fixture(scope="module")
def pruned(data, tmp_path_factory):
    """A layer of two heads, and two of one."""
    return write_pruned(FAMILY, data, tmp_path_factory.mktemp(FAMILY), targets=["query", "value", "ffn_gate"])


@pytest.mark.parametrize("style", ["fused", "portable"])
def test_unequal_layers_are_exported(pruned, data, style, tmp_path):
    manifest = require_exported(pruned, data, style, tmp_path / "export")
    assert manifest.metrics.narrowed.nodes == 10 and manifest.metrics.narrowed.attention == 0


@pytest.mark.optimum
def test_entities_are_those_of_optimums_class(tmp_path):
    """The whole way with a head that reads every token: each row's labels, and the bundle's entities."""
    from optimum.onnxruntime import ORTModelForTokenClassification

    write_tagged(tmp_path / "data", train=96, validation=24)
    base = models.write_model(FAMILY, tmp_path / "pretrained")
    training = {"batch_size": 16, "learning_rate": 1e-2}
    task = {"task": "token-classification", "data": str(tmp_path / "data"), "max_length": 24}
    tuned = dsee_compress.finetune(model=str(base), output=tmp_path / "finetune", epochs=8, **task, **training)
    pruned = dsee_compress.prune(tuned, output=tmp_path / "prune", heads=0.34, neurons=0.3, retune_epochs=1, **training)
    folder = dsee_compress.export(pruned, output=tmp_path / "export", precision="fp32")
    assert Manifest.read(folder).metrics.narrowed.nodes == 0
    dsee_compress.validate(folder, max_drop=0.9, max_compression_drop=0.9)
    assert json.loads((folder / "validation.json").read_text())["accuracy"]["onnx_fp32"]["value"] > 0.5

    bundled = answers.load(dsee_compress.bundle(folder, output=tmp_path / "bundle"))
    model, tokenizer = ORTModelForTokenClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    text = "the lovely film was dull a town story superb"
    with torch.inference_mode():
        labels = model(**tokenizer(text, return_tensors="pt")).logits[0].argmax(-1)[1:-1]
    spans = tagging.entities([model.config.id2label[int(label)] for label in labels])
    (found,) = bundled.answer([bundled.encode((text,))])
    words = text.split()
    wanted = [(" ".join(words[first:after]), kind) for first, after, kind in spans]
    assert wanted and [(entity["text"], entity["type"]) for entity in found["entities"]] == wanted


def test_flops_of_a_mean_are_those_of_all_tokens(data, tmp_path):
    base = models.write_model(FAMILY, tmp_path / "pretrained", classifier_pooling="mean")
    tuned = dsee_compress.finetune(model=str(base), data=str(data), output=tmp_path / "finetune", epochs=1)
    pruned = dsee_compress.prune(tuned, output=tmp_path / "prune", retune_epochs=0)
    flops = Manifest.read(pruned).metrics.flops
    assert flops.exported == flops.final and flops.first_token is False


@pytest.mark.parametrize("style, opset", [("fused", 18), ("portable", 23)])
@pytest.mark.parametrize("head, changes", [("sequence", {"classifier_pooling": "mean"}), ("token", {"labels": 5})])
def test_a_head_that_reads_all_tokens_narrows_nothing(style, opset, head, changes, tmp_path):
    model = resized(FAMILY, "unequal", head=head, **changes)
    require_graph(model, style, opset, tmp_path / "model.onnx", narrowed=0)


def require_graph(model, style, opset, path, narrowed) -> None:
    """PyTorch's logits in rows of any padding, and every weight in its part."""
    written, said = interfaces.of(FAMILY).to_onnx(model, style, opset, "cpu")
    assert said["narrowed"] == {"nodes": narrowed, "attention": 0}
    files.save(written, path)
    padding, window = model.config.pad_token_id, architectures.window(model.config)
    with Session(path, threads=1) as session:
        shapes = [(1, 1), (5, 12), (4, 33)]
        batches = random_batches(shapes, 200, session.inputs, pad_token=padding, window=window)
        batches[1]["attention_mask"][:, 4::3] = 0
        for batch in batches:
            wanted, found = parity.torch_forward(model)(batch), session.forward(batch)
            if wanted.ndim == 3:
                wanted, found = (logits[batch["attention_mask"] == 1] for logits in (wanted, found))
            assert abs(found - wanted).max() < 1e-4
    sizes = {part: round(size * 1e6) for part, size in shares.megabytes(path).items()}
    # A frequency for each pair of a head's numbers, in layers of global and of local attention.
    angles = 2 * 4 * models.HEAD_SIZE // 2
    wanted = in_fp32(model, one_query=False)
    # transformers 4 multiplies them by places as a table, and transformers 5 as numbers of no part.
    assert sizes in (wanted, wanted + Counter(embeddings=angles))
