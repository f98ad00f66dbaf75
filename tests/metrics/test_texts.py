import random
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.translate.nist_score import corpus_nist
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from dsee_compress import tasks
from dsee_compress.evaluation.bootstrap import bootstrap
from dsee_compress.metrics import METRICS, Written

WORDS = ["the", "Eagle", "is", "a", "cheap", "coffee", "shop", ",", "near", "Burger", "King", "."]
SACREBLEU = {"bleu": BLEU(force=True), "chrf": CHRF(), "ter": TER()}
PERFECT = {"bleu": 1.0, "chrf": 1.0, "ter": 0.0, "rouge_l": 1.0}


def corpus(rows: int = 40, references: int | None = 3, seed: int = 0) -> tuple[Written, list[list[str]]]:
    """Sentences that share words with their references; from 1 to 4 of them if no number is given."""
    draw = random.Random(seed)
    texts, truth = [], []
    for _ in range(rows):
        words = draw.choices(WORDS, k=draw.randint(4, 12))
        truth.append([_changed(words, draw) for _ in range(references or draw.randint(1, 4))])
        texts.append(_changed(words, draw))
    losses = np.array([[draw.uniform(1, 30), draw.randint(3, 20)] for _ in range(rows)])
    return Written(texts, losses), truth


def _changed(words: list[str], draw: random.Random) -> str:
    return " ".join(draw.choice(WORDS) if draw.random() < 0.2 else word for word in words)


@pytest.mark.parametrize("name", SACREBLEU)
@pytest.mark.parametrize("references", [1, 3])
def test_values_are_sacrebleus(name, references):
    written, truth = corpus(references=references)
    theirs = SACREBLEU[name].corpus_score(written.texts, list(zip(*truth, strict=True))).score
    assert METRICS[name].value(written, truth) == pytest.approx(theirs / 100, rel=1e-12)


def test_rows_may_have_different_numbers_of_references():
    """A repeated reference changes nothing in these three: so rows can be filled up for the comparison."""
    written, truth = corpus(references=None)
    full = [[own[index % len(own)] for index in range(12)] for own in truth]  # 12 is a multiple of 1, 2, 3 and 4
    assert {len(own) for own in truth} == {1, 2, 3, 4}
    for name, metric in SACREBLEU.items():
        theirs = metric.corpus_score(written.texts, list(zip(*full, strict=True))).score
        assert METRICS[name].value(written, truth) == pytest.approx(theirs / 100, rel=1e-12), name


def test_rouge_l_is_the_mean_of_each_rows_best_reference():
    written, truth = corpus(references=None)
    scorer = RougeScorer(["rougeL"])
    best = [
        max(scorer.score(reference, text)["rougeL"].fmeasure for reference in own)
        for text, own in zip(written.texts, truth, strict=True)
    ]
    assert METRICS["rouge_l"].value(written, truth) == pytest.approx(np.mean(best))


@pytest.mark.parametrize("seed", range(3))
def test_nist_is_nltks(seed):
    written, truth = corpus(references=None, seed=seed)
    split = Tokenizer13a()
    theirs = corpus_nist(
        [[split(text).split() for text in own] for own in truth], [split(t).split() for t in written.texts]
    )
    assert METRICS["nist"].value(written, truth) == pytest.approx(theirs)


def test_figures_by_hand():
    """One edit in four words; a common subsequence of three of four; bits of words that are one in eight."""
    text, truth = Written(["a cat sat here"], np.array([[4 * np.log(5), 4.0]])), [["a cat sat there", "x y"]]
    assert METRICS["ter"].value(text, truth) == pytest.approx(1 / 3)  # of the references' mean length, three words
    assert METRICS["rouge_l"].value(text, truth) == pytest.approx(0.75)
    assert METRICS["perplexity"].value(text, truth) == pytest.approx(5)
    matched = Written(["a b c d"], np.ones((1, 2)))
    assert METRICS["nist"].value(matched, [["a b c d"]]) == pytest.approx(2.0)  # log2(4) a word, nothing more to tell
    # Precisions 3/4, 2/3, 1/2, and 1/2 of a match where there is none; no brevity penalty.
    assert METRICS["bleu"].value(text, [["a cat sat there"]]) == pytest.approx((3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** 0.25)


@pytest.mark.parametrize("name, value", PERFECT.items())
def test_a_copy_of_one_reference_is_perfect(name, value):
    _, truth = corpus(references=None)
    written = Written([own[-1] for own in truth], np.zeros((len(truth), 2)))
    assert METRICS[name].value(written, truth) == pytest.approx(value)


@pytest.mark.parametrize("name", tasks.get("generation").metrics)
def test_a_model_that_writes_nothing_gets_figures(name):
    written, truth = corpus(references=None)
    silent = written._replace(texts=[""] * len(truth))
    sampled = bootstrap(
        METRICS[name], {"silent": silent, "short": silent._replace(texts=["a"] * len(truth))}, truth, resamples=50
    )
    for model in sampled.values():
        assert np.isfinite([model.value, *model.resampled]).all()


@pytest.mark.parametrize("name", tasks.get("generation").metrics)
@given(data=st.data())
def test_a_resample_is_worth_what_its_corpus_is(name, data):
    """The sums of statistics against the metric of a corpus in which rows are repeated or missing."""
    written, truth = corpus(8, None, seed=data.draw(st.integers(0, 5)))
    counts = data.draw(st.lists(st.integers(0, 3), min_size=8, max_size=8).filter(any))
    metric = METRICS[name]
    ours = metric.resampled(metric.statistics(written, truth), np.array([counts], float))
    rows = np.repeat(np.arange(8), counts)
    drawn = Written([written.texts[row] for row in rows], written.losses[rows])
    references = [truth[row] for row in rows]
    if name == "nist":  # which counts its n-grams in all references, whatever the resample
        whole = metric.statistics(written, truth)[rows]
        assert ours[0] == pytest.approx(metric.resampled(whole, np.ones((1, len(rows))))[0])
        return
    assert ours[0] == pytest.approx(metric.value(drawn, references), abs=1e-12)
    if name in SACREBLEU:
        streams = [[own[index] if index < len(own) else None for own in references] for index in range(4)]
        theirs = SACREBLEU[name].corpus_score(drawn.texts, streams).score
        assert ours[0] == pytest.approx(theirs / 100, abs=1e-12)


@pytest.mark.parametrize("name", tasks.get("generation").metrics)
def test_pairing_narrows_the_interval_of_a_change(name):
    written, truth = corpus(60)
    other = Written(
        [truth[row][0] if row < 5 else text for row, text in enumerate(written.texts)],
        written.losses * [1.1, 1],
    )
    sampled = bootstrap(METRICS[name], {"old": written, "new": other}, truth)
    change, apart = (sampled["new"] - sampled["old"]).interval, sampled["new"].interval
    assert change.low <= change.value <= change.high
    assert change.high - change.low < apart.high - apart.low
    better = change.value < 0 if name == "ter" else change.value > 0
    assert better, "and perplexity rises, as it was made to"


def test_a_corpus_of_e2es_size_takes_seconds():
    written, truth = corpus(630, 8)
    started = time.process_time()
    bootstrap(METRICS["bleu"], {str(model): written for model in range(6)}, truth)
    assert time.process_time() - started < 30


def test_metrics_that_should_be_low_say_so():
    assert {name for name, words in METRICS.items() if words.lower_is_better} == {"ter", "perplexity"}
    assert METRICS["bleu"].figure(0.683) == "68.30"
    assert METRICS["ter"].figure(0.021, "+") == "+2.10"
    assert METRICS["perplexity"].figure(4.25) == "4.2500"
