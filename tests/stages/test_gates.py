"""Each gate of DESIGN section 7, made to fail: the stage stops with the figure and leaves nothing behind."""

from functools import partial

import pytest
import torch

import dsee_compress
from dsee_compress import models, weights
from dsee_compress.adapters import model as adapted
from dsee_compress.adapters.layer import DseeLinear
from dsee_compress.errors import GateError
from dsee_compress.evaluation import parity
from dsee_compress.exporting import fusion, graph, opsets
from dsee_compress.exporting.passes import contrib, dynamic
from dsee_compress.pruning import surgery
from dsee_compress.weights import release, save_tensors

NO_RETUNE = {"retune_epochs": 0}


def left_nothing(output) -> bool:
    """Neither the folder nor a part of it; what training can go on from may stay."""
    return not output.exists() and not (output.parent / f".{output.name}.partial").exists()


def test_merge_that_forgets_the_scale_of_s2_is_caught(bert_tuned, tmp_path, monkeypatch):
    def merged_without_scale(self):
        linear = torch.nn.Linear(self.weight.shape[1], self.weight.shape[0])
        update = self.scale * (self.up @ self.down)
        update = update.index_put((self.rows, self.columns), self.values, accumulate=True)
        weight = (self.weight + update) * (1 if self.mask is None else self.mask)
        linear.weight, linear.bias = torch.nn.Parameter(weight.detach()), self.bias
        return linear

    monkeypatch.setattr(DseeLinear, "merged", merged_without_scale)
    with pytest.raises(GateError, match=r"gate 'merge' failed: .* adapter model and merged model differ by up to"):
        dsee_compress.prune(bert_tuned, output=tmp_path / "prune", **NO_RETUNE)
    assert left_nothing(tmp_path / "prune")
    with pytest.raises(GateError, match="gate 'merge' failed"):
        dsee_compress.export(bert_tuned, output=tmp_path / "dense")
    assert left_nothing(tmp_path / "dense")


def test_removal_that_takes_another_head_from_key_is_caught(bert_tuned, tmp_path, monkeypatch):
    cut = surgery._cut
    calls = []

    def cut_key_elsewhere(linear, kept, axis):
        calls.append(linear)
        return cut(linear, (kept + 8) % linear.weight.shape[0] if len(calls) == 2 else kept, axis)

    monkeypatch.setattr(surgery, "_cut", cut_key_elsewhere)
    with pytest.raises(GateError, match=r"gate 'removal' failed: .* masked model and physically smaller model"):
        dsee_compress.prune(bert_tuned, output=tmp_path / "prune", heads=0.5, **NO_RETUNE)
    assert left_nothing(tmp_path / "prune")


@pytest.mark.parametrize(("stage", "saved_by"), [("finetune", adapted), ("prune", models)])
def test_a_save_that_loses_a_bit_is_caught(bert, bert_tuned, data, tmp_path, monkeypatch, stage, saved_by):
    def save_rounded(tensors, path):
        weights = [name for name in tensors if tensors[name].is_floating_point()]
        rounded = {name: tensors[name].to(torch.bfloat16).float() for name in weights[-1:]}
        save_tensors({**tensors, **rounded}, path)

    monkeypatch.setattr(saved_by, "save_tensors", save_rounded)
    with pytest.raises(GateError, match=r"gate 'reload' failed: .* before saving and after loading .* \(limit 0\)"):
        if stage == "finetune":
            dsee_compress.finetune(model=str(bert), data=str(data), output=tmp_path / stage, epochs=1)
        else:
            dsee_compress.prune(bert_tuned, output=tmp_path / stage, **NO_RETUNE)
    assert not (tmp_path / stage).exists()


def test_a_saved_model_goes_before_it_is_loaded(bert_tuned, bert, data, tmp_path, monkeypatch):
    """The reload gate holds the weights once."""
    saved, loads = [], {adapted: adapted.load, models: models.load}
    monkeypatch.setattr(weights, "release", lambda model: (saved.append(model), release(model)))

    def load_alone(room, folder):
        assert all(tensor.is_meta for model in saved for tensor in model.parameters())
        return loads[room](folder)

    for room in loads:
        monkeypatch.setattr(room, "load", partial(load_alone, room))
    dsee_compress.finetune(model=str(bert), data=str(data), output=tmp_path / "finetune", epochs=1)
    dsee_compress.prune(bert_tuned, output=tmp_path / "prune", **NO_RETUNE)
    assert len(saved) == 2


def test_a_graph_with_one_wrong_bias_is_caught(bert_pruned, tmp_path, monkeypatch):
    lower = opsets.lower

    def lower_and_shift(model, opset):
        import onnx

        lower(model, opset)
        bias = next(
            tensor
            for tensor in model.model.graph.initializer
            if tensor.name.startswith("classifier") and len(tensor.dims) == 1
        )
        shifted = onnx.numpy_helper.to_array(bias) + 0.01
        bias.CopyFrom(onnx.numpy_helper.from_array(shifted.astype("float32"), bias.name))

    monkeypatch.setattr(opsets, "lower", lower_and_shift)
    with pytest.raises(GateError, match=r"gate 'export' failed: .* PyTorch and ONNX Runtime fp32 differ by up to 0.0"):
        dsee_compress.export(bert_pruned, output=tmp_path / "export")
    assert left_nothing(tmp_path / "export")


def test_a_graph_that_stays_unfused_is_caught(bert_pruned, tmp_path, monkeypatch):
    monkeypatch.setattr(contrib, "rules", lambda model, *, local: [])
    with pytest.raises(GateError, match=r"gate 'fusion' failed: Attention node_.* stayed as it was, and opset 18 has"):
        dsee_compress.export(bert_pruned, output=tmp_path / "export")
    monkeypatch.setattr(opsets, "lower", lambda model, opset: None)
    monkeypatch.setattr(fusion, "_ATTENTION", {"QAttention"})
    with pytest.raises(
        GateError, match=r"gate 'fusion' failed: model.onnx has 0 attention and 3 GELU nodes for 3 layers"
    ):
        dsee_compress.export(bert_pruned, output=tmp_path / "export")
    assert left_nothing(tmp_path / "export")


@pytest.fixture
def ruined_int8(monkeypatch):
    """Quantises a graph whose classifier answers the opposite."""
    quantise = dynamic.quantise

    def quantise_opposite(model, *, reduce_range):
        import onnx

        for tensor in model.model.graph.initializer:
            if "classifier" in tensor.name:
                opposite = -onnx.numpy_helper.to_array(tensor)
                tensor.CopyFrom(onnx.numpy_helper.from_array(opposite, tensor.name))
        quantise(model, reduce_range=reduce_range)

    monkeypatch.setattr(dynamic, "quantise", quantise_opposite)


def test_int8_that_ruins_the_metric_is_caught(bert_tuned, tmp_path, ruined_int8):
    folder = dsee_compress.export(bert_tuned, output=tmp_path / "export")
    with pytest.raises(
        GateError, match=r"gate 'precision' failed: the accuracy of onnx_int8 is [\d.]+% below .* onnx_fp32"
    ):
        dsee_compress.validate(folder)
    assert not (folder / "validation.json").exists()


def test_an_int8_artifact_that_stands_alone_is_judged_too(bert_tuned, tmp_path, ruined_int8):
    folder = dsee_compress.export(bert_tuned, output=tmp_path / "export", precision="int8")
    with pytest.raises(GateError, match=r"onnx_int8 is .* below that of dense_finetuned"):
        dsee_compress.validate(folder, max_drop=0.9)


def test_pruning_that_costs_too_much_is_caught(bert_tuned, tmp_path):
    pruned = dsee_compress.prune(bert_tuned, output=tmp_path / "prune", weights=0.99, **NO_RETUNE)
    folder = dsee_compress.export(pruned, output=tmp_path / "export")
    with pytest.raises(
        GateError, match=r"gate 'compression' failed: .* onnx_fp32 is .* that of dense_finetuned .* allowed"
    ):
        dsee_compress.validate(folder, max_drop=0.9)
    assert not (folder / "validation.json").exists()
    dsee_compress.validate(folder, max_drop=0.9, max_compression_drop=0.9)


def test_a_difference_that_is_not_a_number_does_not_pass():
    import numpy as np

    with pytest.raises(GateError, match="differ by up to nan"):
        parity.passed(parity.EXPORT, [np.zeros((1, 2), np.float32)], [np.full((1, 2), np.nan, np.float32)])


def test_the_exporter_is_not_asked_for_a_shape_that_the_gate_uses():
    from dsee_compress.exporting import decoder_graph
    from dsee_compress.interfaces import decoder
    from dsee_compress.interfaces.encoder import UNSEEN_SHAPES

    assert len(UNSEEN_SHAPES) >= 4
    assert graph.SEEN_SHAPE not in UNSEEN_SHAPES
    assert not {length for _, length in UNSEEN_SHAPES} & {graph.SEEN_SHAPE[1]}
    assert len(decoder.UNSEEN_SHAPES) >= 4
    assert decoder_graph.TOKENS not in {length for _, length in decoder.UNSEEN_SHAPES}
    assert decoder_graph.PAST not in {length for _, length in decoder.UNSEEN_SHAPES}


@pytest.mark.parametrize("metric, worse, words", [("ter", 0.1, "10.00 above"), ("bleu", -0.1, "10.00 below")])
def test_a_text_metric_that_should_be_low_fails_where_it_rises(metric, worse, words):
    import numpy as np

    from dsee_compress.configs import ValidateConfig
    from dsee_compress.evaluation.bootstrap import Sampled
    from dsee_compress.metrics import METRICS
    from dsee_compress.stages import validate

    def gates(change):
        dense = Sampled(0.5, np.full(100, 0.5))
        sampled = {"dense_finetuned": dense, "pruned": Sampled(0.5 + change, dense.resampled + change)}
        return validate._metric_gates(METRICS[metric], sampled, ValidateConfig(), trimmed=False)

    with pytest.raises(GateError, match=f"of pruned is {words} that of dense_finetuned"):
        gates(worse)
    (gate,) = gates(-worse)
    assert (gate["verdict"], gate["change"]["value"]) == ("proven", pytest.approx(-worse))
