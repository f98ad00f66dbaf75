"""Sessions: what is bound to a device gives what is not."""

import numpy as np
import pytest

import dsee_compress
from dsee_compress.evaluation import inputs, session


@pytest.fixture(scope="module")
def bert_export(bert_tuned, tmp_path_factory):
    return dsee_compress.export(bert_tuned, output=tmp_path_factory.mktemp("bert") / "export", precision="fp32")


@pytest.mark.parametrize("shape", [(1, 2), (3, 17), (2, 64)])
def test_a_bound_run_gives_the_same_logits(bert_export, shape):
    path = bert_export / "model.onnx"
    with session.Session(path) as live:
        (batch,) = inputs.random_batches([shape], 200, live.inputs)
        bound = session.run_bound(session.load(path), {name: batch[name] for name in live.inputs}, "cpu")
        assert np.array_equal(bound, live.forward(batch)) and bound.shape == (shape[0], 2)
