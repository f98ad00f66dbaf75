import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dsee_compress.evaluation import accuracy
from dsee_compress.evaluation.accuracy import Interval


def test_interval_agrees_with_scipys_bootstrap():
    correct = np.random.default_rng(0).random(300) < 0.8
    ours = accuracy.accuracy_interval(correct, resamples=5000)
    theirs = stats.bootstrap((correct.astype(float),), np.mean, method="percentile", rng=1).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.008)
    assert ours.value == correct.mean()


def test_pairing_narrows_the_interval_of_a_change():
    generator = np.random.default_rng(0)
    reference = generator.random(500) < 0.8
    candidate = reference.copy()
    candidate[:5] = ~candidate[:5]
    paired = accuracy.paired_interval(candidate, reference)
    apart = accuracy.accuracy_interval(candidate)
    assert paired.value == pytest.approx(candidate.mean() - reference.mean())
    assert paired.high - paired.low < (apart.high - apart.low) / 2


@pytest.mark.parametrize(
    "change, verdict",
    [
        (Interval(0.0, -0.005, 0.005), "proven"),
        (Interval(-0.02, -0.03, -0.01), "failed"),
        (Interval(-0.02, -0.05, 0.01), "within noise"),
        (Interval(-0.005, -0.012, -0.001), "within noise"),
        (Interval(-0.5, -0.6, -0.4), "failed"),
    ],
)
def test_verdicts_for_an_allowed_drop_of_a_point(change, verdict):
    assert accuracy.judge(change, 0.01) == verdict


def test_interval_of_many_rows_needs_no_table_of_resamples():
    import tracemalloc

    correct = np.random.default_rng(0).random(400_000) < 0.9
    tracemalloc.start()
    accuracy.paired_interval(correct, ~correct)
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


@given(st.lists(st.booleans(), min_size=2, max_size=60))
def test_interval_holds_its_value_and_stays_a_share(flags):
    interval = accuracy.accuracy_interval(np.array(flags), resamples=200)
    assert 0 <= interval.low <= interval.value + 1e-9 and interval.value - 1e-9 <= interval.high <= 1
