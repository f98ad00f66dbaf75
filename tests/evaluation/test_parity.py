"""Comparisons of logits, of a row or of every token."""

import numpy as np
import pytest

from dsee_compress.errors import GateError
from dsee_compress.evaluation import parity


def logits(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.normal(size=shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("shapes", [[(4, 3), (2, 3)], [(2, 5, 7), (2, 9, 7), (1, 1, 7)]])
def test_batches_may_differ_in_rows_and_in_tokens(shapes):
    reference = logits(*shapes)
    assert parity.passed(parity.RELOAD, reference, reference) == parity.Parity(0.0, 1.0)
    moved = [entry + np.float32(5e-5) for entry in reference]
    found = parity.passed(parity.MERGE, reference, moved)
    assert found.max_abs == pytest.approx(5e-5, rel=1e-2) and found.label_agreement == 1.0
    moved[-1][..., 0] += 1
    with pytest.raises(GateError, match=r"gate 'merge' failed: .* differ by up to 1"):
        parity.passed(parity.MERGE, reference, moved)
