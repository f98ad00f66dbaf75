"""What validation says of artifacts that this machine does not run as their target does."""

import json

import pytest
from dsee_compress_cli import main as cli

import dsee_compress
from dsee_compress.errors import UserError
from dsee_compress.evaluation import arithmetic
from dsee_compress.stages import places
from dsee_compress.store.manifest import Manifest
from dsee_compress.store.stage_metrics import Int8Metrics

LENIENT = {"max_drop": 0.9, "max_compression_drop": 0.9}


@pytest.fixture
def without_a_card(monkeypatch):
    monkeypatch.setattr(arithmetic, "obstacle", lambda provider: f"this machine has no {provider} in this test")


@pytest.fixture(scope="module")
def for_cards(bert_tuned, tmp_path_factory):
    """A pruned model exported for cards, with its parents."""
    run = tmp_path_factory.mktemp("cards")
    pruned = dsee_compress.prune(bert_tuned, output=run / "prune", heads=0.5, retune_epochs=0)
    dense = dsee_compress.export(bert_tuned, output=run / "dense", precision="fp32")
    return dsee_compress.export(pruned, output=run / "export", precision="fp32,fp16", target="cuda"), dense


def validation(folder) -> dict:
    return json.loads((folder / "validation.json").read_text())


def test_fp16_without_a_card_is_not_validated_and_everything_says_so(for_cards, without_a_card, capsys):
    folder, dense = for_cards
    options = [item for name, value in LENIENT.items() for item in (f"--{name.replace('_', '-')}", str(value))]
    capsys.readouterr()
    assert cli._run(["validate", str(folder), "--overwrite", *options], debug=False) == 0
    out = capsys.readouterr().out
    result = validation(folder)
    reason = "fp16 is for CUDA, and this machine has no cuda in this test"
    assert result["not_validated"] == {"onnx_fp16": reason}
    assert result["providers"] == {"onnx_fp32": "cpu"}
    assert list(result["accuracy"]) == list(result["predictions"]) == ["dense_finetuned", "pruned", "onnx_fp32"]
    verdicts = {(gate["gate"], gate["candidate"]): gate["verdict"] for gate in result["gates"]}
    assert verdicts["precision", "onnx_fp16"] == verdicts["compression", "onnx_fp16"] == "not validated here"
    assert f"precision: onnx_fp16 against onnx_fp32: not validated here, {reason}" in " ".join(out.split())

    few = {"samples": 10, "rounds": 2, "sequence_length": 16, "threads": 1, "provider": "cpu"}
    dsee_compress.benchmark(folder, baseline=str(dense), **few)
    dsee_compress.report(folder)
    report = json.loads((folder / "report.json").read_text())
    assert report["schema"] == 1
    assert report["not_validated"] == result["not_validated"] and report["gates"] == result["gates"]
    markdown, html = ((folder / f"report.{kind}").read_text() for kind in ("md", "html"))
    assert "| precision | onnx_fp16 with onnx_fp32 | not measured | |" in markdown
    assert f"onnx_fp16 is not validated here: {reason}." in markdown
    assert markdown.splitlines()[2].startswith("**pruned_fp32: "), "what was validated is what the report begins with"
    assert '<span class="verdict not-validated-here">not validated here</span>' in html and reason in html


def test_an_fp16_artifact_that_stands_alone_has_no_figure(for_cards, without_a_card, tmp_path):
    (folder, dense), few = for_cards, {"samples": 10, "rounds": 2, "sequence_length": 16, "threads": 1}
    alone = dsee_compress.export(folder.parent / "prune", output=folder.parent / "alone", precision="fp16")
    dsee_compress.validate(alone, **LENIENT)
    assert list(validation(alone)["accuracy"]) == ["dense_finetuned", "pruned"]
    dsee_compress.benchmark(alone, baseline=str(dense), **few)
    dsee_compress.report(alone)
    assert "accuracy not validated here" in (alone / "report.md").read_text()
    assert 'id="accuracy">not validated</div>' in (alone / "report.html").read_text()


def test_it_is_validated_anew_once_there_is_a_card(for_cards, without_a_card, monkeypatch):
    folder, _ = for_cards
    dsee_compress.validate(folder, **LENIENT)
    before = (folder / "validation.json").read_bytes()
    dsee_compress.validate(folder, **LENIENT)
    assert (folder / "validation.json").read_bytes() == before
    monkeypatch.setattr(arithmetic, "obstacle", lambda provider: "another reason")
    dsee_compress.validate(folder, **LENIENT)
    assert "another reason" in validation(folder)["not_validated"]["onnx_fp16"]
    monkeypatch.setattr(arithmetic, "obstacle", lambda provider: "")
    asked = {name: place.provider for name, place in places.of_artifacts(Manifest.read(folder)).items()}
    assert asked == {"onnx_fp32": "cuda", "onnx_fp16": "cuda"}


def test_a_result_that_asked_fp16_in_fp32_is_not_reported(for_cards, without_a_card):
    folder, dense = for_cards
    dsee_compress.validate(folder, **LENIENT)
    old = {name: value for name, value in validation(folder).items() if name != "not_validated"}
    (folder / "validation.json").write_text(json.dumps(old))
    if not (folder / "benchmark.json").is_file():
        few = {"samples": 10, "rounds": 2, "sequence_length": 16, "threads": 1, "provider": "cpu"}
        dsee_compress.benchmark(folder, baseline=str(dense), **few)
    with pytest.raises(UserError, match=r"validation.json is of an earlier version, which asked fp16 in fp32; run"):
        dsee_compress.report(folder)
    dsee_compress.validate(folder, overwrite=True, **LENIENT)


@pytest.mark.parametrize(
    "target, saturates, validated",
    [("x86-vnni", True, False), ("x86-vnni", False, True), ("arm64", True, False), ("x86-avx2", True, True)],
)
def test_int8_of_sums_that_are_cut_here_alone_is_not_validated(for_cards, monkeypatch, target, saturates, validated):
    """What is 7 bits wide, or made for this machine, is: so is int8 where nothing is cut."""
    from dsee_compress import targets

    monkeypatch.setattr(arithmetic, "saturates", lambda: saturates)
    monkeypatch.setattr(targets, "obstacle", lambda target: "it is not this machine")
    described = Manifest.read(for_cards[0])
    int8 = Int8Metrics(attention=3, gelu=3, reduce_range=target == "x86-avx2")
    manifest = described.model_copy(
        update={
            "config": described.config | {"precision": ["fp32", "int8"], "target": target},
            "metrics": described.metrics.model_copy(update={"target": targets.load(target).resolved(), "int8": int8}),
        }
    )
    asked = places.of_artifacts(manifest)
    assert asked["onnx_fp32"] == ("cpu", "")
    reason = f"int8 is for {target}, and this CPU stops sums of int8 products at 16 bits"
    assert asked["onnx_int8"] == ("cpu", "" if validated else reason)
    monkeypatch.setattr(targets, "obstacle", lambda target: "")
    assert not places.of_artifacts(manifest)["onnx_int8"].obstacle


def test_whether_sums_are_cut_is_what_a_product_says():
    """As a CPU with VNNI or of ARM has it, or one without."""
    import numpy as np
    import onnx
    from onnx import helper

    from dsee_compress.evaluation import session

    weight = onnx.numpy_helper.from_array(np.full((2, 16), 127, np.int8), "weight")
    given = helper.make_tensor_value_info("levels", onnx.TensorProto.UINT8, [1, 2])
    gives = helper.make_tensor_value_info("sums", onnx.TensorProto.INT32, None)
    product = helper.make_node("MatMulInteger", ["levels", "weight"], ["sums"])
    graph = helper.make_graph([product], "product", [given], [gives], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    live = session.of_model(model.SerializeToString(), "a product")
    (sums,) = live.run(None, {"levels": np.full((1, 2), 255, np.uint8)})
    assert arithmetic.saturates() == (sums[0, 0] == 2**15 - 1)
