"""The metrics of generation, of whole corpora: texts against references, and the likelihood of the references.

BLEU, chrF, TER and ROUGE-L are shares: BLEU 0.683 is what others write as 68.3. A resample is scored from the sums of
its rows' statistics, as the corpus that its rows make is.
"""

import math
from collections import Counter
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .metric import Figures, Metric, Statistics, of_sums

References = list[list[str]]
"""The references of each row, at least one; rows may have different numbers."""
_NIST_ORDER = 5
_NIST_DECAY = math.log(0.5) / math.log(1.5) ** 2


class Written(NamedTuple):
    """What a model wrote, and how likely it holds what people wrote."""

    texts: list[str]
    losses: NDArray[np.float64]
    """The negative log-likelihood of each row's references, and the number of their tokens, (rows, 2)."""


def _of_sacrebleu(name: str, title: str, lower_is_better: bool = False) -> Metric:
    def statistics(written: Written, references: References) -> Statistics:
        rows = zip(written.texts, references, strict=True)
        return np.array([_sacrebleu_row(name, text, tuple(own)) for text, own in rows], dtype=np.float64)

    def score(sums: Statistics) -> Figures:
        metric = _sacrebleu_metric(name)
        return np.array([metric._compute_score_from_stats(row.tolist()).score / 100 for row in sums])

    return of_sums(name, title, statistics, score, 100, lower_is_better=lower_is_better)


@lru_cache(100_000)
def _sacrebleu_row(name: str, text: str, references: tuple[str, ...]) -> list[float]:
    """A row's statistics. Kept: models that are compared write the same texts mostly, and TER takes a third of a
    second for one with nine references."""
    rows = _sacrebleu_metric(name)._extract_corpus_statistics([text], [[reference] for reference in references])
    found: list[float] = rows[0]
    return found


@cache
def _sacrebleu_metric(name: str) -> Any:
    from sacrebleu import metrics

    # `force` says that texts may be tokenised already, of which there would be a warning.
    return {"bleu": partial(metrics.BLEU, force=True), "chrf": metrics.CHRF, "ter": metrics.TER}[name]()


def _rouge_l(written: Written, references: References) -> Statistics:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    return np.array(
        [
            [scorer.score_multi(own, text)["rougeL"].fmeasure, 1]
            for text, own in zip(written.texts, references, strict=True)
        ]
    )


def _means(sums: Statistics) -> Figures:
    return sums[:, 0] / sums[:, 1]


def _nist(written: Written, references: References) -> Statistics:
    """A row's matched information and n-grams of each order against its best reference, and both lengths.

    Doddington (2002), as nltk has it. What an n-gram tells is counted in all references, also of a resample.
    """
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    split = Tokenizer13a()
    words = [[split(reference).split() for reference in own] for own in references]
    information = _information([reference for own in words for reference in own])
    return np.array(
        [_nist_row(split(text).split(), own, information) for text, own in zip(written.texts, words, strict=True)],
        dtype=np.float64,
    )


def _nist_row(text: list[str], references: list[list[str]], information: dict[tuple[str, ...], float]) -> list[float]:
    matched, ngrams, length = [], [], 0
    for order in range(1, _NIST_ORDER + 1):
        own = Counter(_ngrams(text, order))
        total = own.total()
        worth = []
        for reference in references:
            common = own & Counter(_ngrams(reference, order))
            worth.append((sum(information[ngram] * times for ngram, times in common.items()), len(reference)))
        best = max(worth)
        matched.append(best[0])
        ngrams.append(total)
        length += best[1]
    return [*matched, *ngrams, length, _NIST_ORDER * len(text)]


def _information(references: list[list[str]]) -> dict[tuple[str, ...], float]:
    """How many bits the last word of each n-gram tells to whom knows the others."""
    times = Counter(
        ngram for words in references for order in range(1, _NIST_ORDER + 1) for ngram in _ngrams(words, order)
    )
    times[()] = sum(map(len, references))
    return {ngram: math.log2(times[ngram[:-1]] / count) for ngram, count in times.items()}


def _ngrams(words: list[str], order: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + order]) for start in range(len(words) - order + 1)]


def _nist_scores(sums: Statistics) -> Figures:
    matched, ngrams = sums[:, :_NIST_ORDER], sums[:, _NIST_ORDER : 2 * _NIST_ORDER]
    precision = np.divide(matched, ngrams, out=np.zeros_like(matched), where=ngrams > 0).sum(-1)
    shortness = np.minimum(sums[:, -1] / sums[:, -2], 1)
    logs = np.log(shortness, out=np.full_like(shortness, -np.inf), where=shortness > 0)
    return precision * np.exp(_NIST_DECAY * logs**2)


def _perplexities(sums: Statistics) -> Figures:
    with np.errstate(over="ignore"):
        return np.exp(_means(sums))


TEXTS = (
    _of_sacrebleu("bleu", "BLEU"),
    _of_sacrebleu("chrf", "chrF"),
    _of_sacrebleu("ter", "TER", lower_is_better=True),
    of_sums("rouge_l", "ROUGE-L", _rouge_l, _means, 100),
    of_sums("nist", "NIST", _nist, _nist_scores),
    of_sums("perplexity", "perplexity", lambda written, _: written.losses, _perplexities, lower_is_better=True),
)
