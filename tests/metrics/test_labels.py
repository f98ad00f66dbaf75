import time
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn_metrics

from dsee_compress import tasks
from dsee_compress.evaluation.bootstrap import Interval, bootstrap, judge
from dsee_compress.metrics import METRICS
from dsee_compress.metrics import labels as functions
from dsee_compress.tasks import Spec

OF_NUMBERS = tasks.get("regression").metrics
OF_LABELS = [*tasks.get("classification").metrics, *OF_NUMBERS]
PLACE = {"data": "x", "text": ["text"], "label": "label", "max_length": 16}


def sample(name: str, rows: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and labels that agree in part."""
    generator = np.random.default_rng(seed)
    if name in OF_NUMBERS:
        labels = generator.integers(0, 26, rows) / 5
        return labels + generator.normal(0, 1.5, rows), labels
    if name == "f1":
        labels = generator.random(rows) < 0.3
        return np.where(generator.random(rows) < 0.8, labels, ~labels), labels
    labels = generator.integers(0, 5, rows)
    return np.where(generator.random(rows) < 0.7, labels, generator.integers(0, 5, rows)), labels


@pytest.mark.parametrize("name", OF_LABELS)
def test_interval_agrees_with_scipys_bootstrap(name):
    predictions, labels = sample(name)
    metric = METRICS[name]
    ours = bootstrap(metric, {"a": predictions}, labels, resamples=4000)["a"].interval
    theirs = stats.bootstrap(
        (predictions, labels), metric.value, method="percentile", paired=True, vectorized=False, n_resamples=500, rng=1
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)
    assert ours.value == metric.value(predictions, labels)


@pytest.mark.parametrize("name", OF_LABELS)
def test_change_agrees_with_a_naive_loop_over_pairs(name):
    metric = METRICS[name]
    reference, labels = sample(name)
    candidate = np.where(np.arange(len(labels)) < 20, reference[::-1], reference)
    sampled = bootstrap(metric, {"new": candidate, "old": reference}, labels, resamples=4000)
    ours = (sampled["new"] - sampled["old"]).interval
    generator = np.random.default_rng(1)
    loop = []
    for _ in range(300):
        drawn = generator.integers(0, len(labels), len(labels))
        loop.append(metric.value(candidate[drawn], labels[drawn]) - metric.value(reference[drawn], labels[drawn]))
    assert (ours.low, ours.high) == pytest.approx(tuple(np.percentile(loop, [2.5, 97.5])), abs=0.02)
    assert ours.value == pytest.approx(metric.value(candidate, labels) - metric.value(reference, labels))
    apart = sampled["new"].interval
    assert ours.high - ours.low < apart.high - apart.low, "pairing narrows it"


@pytest.mark.parametrize("name", OF_LABELS)
@given(data=st.data())
def test_a_resample_is_worth_what_its_rows_are(name, data):
    """The quick form, of counts, against the library's metric of the rows that they stand for."""
    rows = data.draw(st.integers(2, 12))
    values = {"f1": st.booleans(), "accuracy": st.integers(0, 3), "matthews": st.integers(0, 3)}
    column = st.lists(values.get(name, st.integers(-8, 8).map(lambda value: value / 4)), min_size=rows, max_size=rows)
    predictions, labels = np.array(data.draw(column)), np.array(data.draw(column))
    counts = np.array([data.draw(st.lists(st.integers(0, 4), min_size=rows, max_size=rows).filter(any))])
    ours = METRICS[name].resampled(METRICS[name].statistics(predictions, labels), counts.astype(float))
    assert ours.shape == (1,)
    drawn = [np.repeat(values, counts[0]) for values in (predictions, labels)]
    assert ours[0] == pytest.approx(METRICS[name].value(*drawn), abs=1e-9)


def test_values_are_those_of_the_libraries():
    classes, flags, numbers = (sample(name) for name in ("accuracy", "f1", "pearson"))
    assert functions.accuracy(*classes) == (classes[0] == classes[1]).mean()
    assert functions.matthews(*classes) == sklearn_metrics.matthews_corrcoef(*classes)
    hits = (flags[0] & flags[1]).sum()
    assert functions.f1(*flags) == pytest.approx(2 * hits / (flags[0].sum() + flags[1].sum()))
    assert functions.pearson(*numbers) == pytest.approx(np.corrcoef(*numbers)[0, 1])
    ranks = [stats.rankdata(values) for values in numbers]
    assert functions.spearman(*numbers) == pytest.approx(np.corrcoef(*ranks)[0, 1])


@pytest.mark.parametrize("name", OF_LABELS)
def test_samples_of_one_class_or_value_give_figures_and_no_warning(name):
    """Some resamples of a small or lopsided sample miss a class, and a ruined model answers alike to everything."""
    kind = {"f1": bool, "accuracy": int, "matthews": int}.get(name, float)
    lopsided = np.array([1, 0, 0, 0, 0, 0], kind)
    columns = [lopsided, lopsided[::-1], np.zeros(6, kind), np.full(6, 1 if kind is int else 0.1).astype(kind)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for labels in columns:
            models = {str(index): values for index, values in enumerate(columns)}
            for sampled in bootstrap(METRICS[name], models, labels, resamples=300).values():
                interval = sampled.interval
                assert np.isfinite([interval.value, interval.low, interval.high]).all()
                assert -1 <= interval.low <= interval.high <= 1 + 1e-12


@pytest.mark.parametrize("name", OF_LABELS)
def test_ten_thousand_rows_take_seconds(name):
    predictions, labels = sample(name, 10_000)
    started = time.process_time()
    bootstrap(METRICS[name], {"a": predictions, "b": predictions}, labels)
    assert time.process_time() - started < 30


def test_many_rows_need_no_table_of_resamples():
    labels = np.random.default_rng(0).random(400_000) < 0.9
    tracemalloc.start()
    bootstrap(METRICS["accuracy"], {"a": labels, "b": ~labels}, labels)
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


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
    assert judge(change, 0.01) == verdict


def test_every_metric_is_of_one_task_and_every_task_has_some():
    named = [name for task in tasks.TASKS.values() for name in task.metrics]
    assert sorted(named) == sorted(METRICS)
    assert all(metric.name == name for name, metric in METRICS.items())


def test_a_task_has_the_metrics_that_fit_it_its_own_first():
    many = Spec(labels=["a", "b", "c"], metric="matthews", **PLACE)
    assert list(tasks.of(many).judged_by(many)) == ["matthews", "accuracy"]
    pair = Spec(labels=["no", "yes"], metric="f1", positive="no", **PLACE)
    assert list(tasks.of(pair).judged_by(pair)) == ["f1", "accuracy", "matthews"]
    number = Spec(name="regression", labels=[], metric="spearman", **PLACE)
    assert list(tasks.of(number).judged_by(number)) == ["spearman", "pearson"]


@pytest.mark.parametrize("positive", ["a", "b", "c"])
def test_f1_is_of_the_class_that_was_named(positive):
    task = Spec(labels=["a", "b", "c"], positive=positive, **PLACE)
    predictions, labels = (values % 3 for values in sample("accuracy"))
    theirs = sklearn_metrics.f1_score(labels, predictions, average=None)["abc".index(positive)]
    f1 = tasks.of(task).judged_by(task)["f1"]
    assert f1.value(predictions, labels) == pytest.approx(theirs)
    assert f1.resampled(f1.statistics(predictions, labels), np.ones((1, 300)))[0] == pytest.approx(theirs)
