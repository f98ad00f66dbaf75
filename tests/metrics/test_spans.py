"""Entity metrics against seqeval, and their resamples against a naive loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval import metrics as seqeval
from seqeval.scheme import IOB2

from dsee_compress import metrics
from dsee_compress.evaluation.bootstrap import bootstrap
from dsee_compress.runtime import tagging

TAGS = st.lists(st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]), min_size=5, max_size=5)
THEIRS = {
    "entity_f1": seqeval.f1_score,
    "entity_precision": seqeval.precision_score,
    "entity_recall": seqeval.recall_score,
}


def entities(rows: list[list[str]]) -> list[set]:
    return [{*tagging.entities(row)} for row in rows]


def sample(rows: int, seed: int) -> list[set]:
    generator = np.random.default_rng(seed)
    return entities(generator.choice(["O", "O", "B-PER", "I-PER", "B-LOC"], (rows, 8)).tolist())


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(found=st.lists(TAGS, min_size=4, max_size=4), true=st.lists(TAGS, min_size=4, max_size=4))
def test_entity_metrics_are_seqevals(found, true):
    for name, theirs in THEIRS.items():
        expected = theirs(true, found, mode="strict", scheme=IOB2, zero_division=0)
        assert metrics.named(name).value(entities(found), entities(true)) == pytest.approx(expected)
    report = seqeval.classification_report(true, found, mode="strict", scheme=IOB2, zero_division=0, output_dict=True)
    for kind in ("PER", "LOC"):
        expected = report[kind]["f1-score"] if kind in report else 0.0
        assert metrics.named(f"entity_f1:{kind}").value(entities(found), entities(true)) == pytest.approx(expected)


@pytest.mark.parametrize("name", [*THEIRS, "entity_f1:LOC"])
def test_resamples_of_sentences_are_those_of_a_naive_loop(name):
    metric, found, true = metrics.named(name), sample(60, 0), sample(60, 1)
    counts = np.random.default_rng(2).multinomial(60, [1 / 60] * 60, size=5)
    ours = metric.resampled(metric.statistics(found, true), counts.astype(float))
    for figure, times in zip(ours, counts, strict=True):
        drawn = np.repeat(np.arange(60), times)
        assert figure == pytest.approx(metric.value([found[row] for row in drawn], [true[row] for row in drawn]))
    interval = bootstrap(metric, {"a": found}, true)["a"].interval
    assert interval.low < interval.value < interval.high


def test_without_entities_nothing_is_found_and_nothing_divided():
    for name in THEIRS:
        assert metrics.named(name).value([set(), set()], [set(), set()]) == 0.0
