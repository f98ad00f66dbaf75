"""Micro and macro F1 against scikit-learn, and their resamples against a naive loop."""

import numpy as np
import pytest
from sklearn import metrics as theirs

from dsee_compress.metrics import METRICS

GENERATOR = np.random.default_rng(0)
TRUTH = GENERATOR.random((200, 6)) < np.array([0.5, 0.3, 0.2, 0.1, 0.02, 0.0])
PREDICTIONS = np.where(GENERATOR.random(TRUTH.shape) < 0.85, TRUTH, ~TRUTH) & (np.arange(6) < 5)


@pytest.mark.parametrize("average", ["micro", "macro"])
def test_f1_is_that_of_scikit_learn_also_on_resamples(average):
    metric = METRICS[f"{average}_f1"]

    def expected(rows) -> float:
        return theirs.f1_score(TRUTH[rows], PREDICTIONS[rows], average=average, zero_division=0)

    assert metric.value(PREDICTIONS, TRUTH) == pytest.approx(expected(slice(None)))
    counts = np.random.default_rng(1).multinomial(200, [1 / 200] * 200, size=5)
    ours = metric.resampled(metric.statistics(PREDICTIONS, TRUTH), counts.astype(float))
    assert ours.tolist() == pytest.approx([expected(np.repeat(np.arange(200), times)) for times in counts])
