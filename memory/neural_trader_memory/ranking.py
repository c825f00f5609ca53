"""How well texts answer a query, judged only among the candidates themselves.

Full-text indexes score with the statistics of the whole table, so rows from the future change the scores of
the past even where a filter hides them (measured: after future rows were added, the top ten of an earlier
moment kept four). Here the statistics are those of the candidates, which the caller has already cut at its
`as_of`: what is not among them cannot be felt.
"""

import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neural_trader_memory.embedders.port import Vectors
from neural_trader_memory.glossary import explain
from neural_trader_memory.records import Kind
from neural_trader_memory.stemming import stem

Scores = NDArray[np.float64]
"""One score a candidate."""
Integers = NDArray[np.int64]

# For short texts, as in Lin et al., "Pyserini" (2021): length says little about a note of one sentence.
BM25_K1 = 0.9
BM25_B = 0.4
# Meaning and words are each taken as a share of the best candidate's, because cosines and BM25 have different
# scales for each question. Where even the best says less than this, it is not blown up to say everything.
SHARE_FLOOR = 0.35
# Between questions that share words with their answer (more words) and ones that share none (more meaning);
# docs/memory.md has the figures of both.
VECTOR_WEIGHT = 0.5
# Recency and importance decide between memories that answer about equally well, and little more.
WEIGHTS: Final[Mapping[str, float]] = {
    "vector": 0.9 * VECTOR_WEIGHT,
    "words": 0.9 * (1 - VECTOR_WEIGHT),
    "recency": 0.05,
    "importance": 0.05,
    "context": 0.54,  # 0.6 of what meaning and words have together
    "regime": 0.6,
}
DECAY_DAYS: Final[Mapping[Kind, float]] = {
    "order": 3.0,
    "note": 90.0,
    "decision": 90.0,
    "trade": 90.0,
    "outcome": 365.0,
    "reflection": 365.0,
    "backtest": 365.0,
    "skill": 365.0,
}
IMPORTANCE: Final[Mapping[Kind, float]] = {
    "order": 0.3,
    "note": 0.3,
    "backtest": 0.4,
    "trade": 0.5,
    "decision": 0.5,
    "outcome": 0.6,
    "reflection": 0.7,
    "skill": 0.7,
}
SCORE_DECIMALS = 4  # far above float32 noise, so that equal stores give equal scores

_WORD = re.compile(r"\w+")
# Words that carry no subject; in a handful of notes their inverse document frequency would be noise.
_STOP_WORDS = frozenset(
    """
    a about after all an and any are as at be because been before but by can did do does for from had
    has have how i if in into is it its just me my no not of on or our out over so than that the their
    them then there these they this to too up was we were what when where which while who why will with
    you your
    """.split()  # noqa: SIM905 - sixty quoted words would be a page
)


def split_words(text: str) -> list[str]:
    """Returns the stems of the lower-case words of a text, without stop words."""
    return [term for term in map(_reduce, _WORD.findall(text.lower())) if term]


def relevance(
    query: str, asked: Vectors, texts: Sequence[str], vectors: Vectors, background: Sequence[str] = ()
) -> dict[str, Scores]:
    """Returns what vectors and words say of each candidate, 0 to 1, each on its own scale.

    Args:
        query: What is looked for.
        asked: The query's vector, shape (dimension,).
        texts: The candidates' texts.
        vectors: The candidates' vectors, row for row.
        background: Texts that tell how rare words are; the candidates' own where there are none.
    """
    return {"vector": score_vectors(asked, vectors), "words": score_words(query, texts, background)}


def measure_best(
    relevance: Mapping[str, Scores], least: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Returns what counts in full: the best candidate's score, but `SHARE_FLOOR` and `least` at the least."""
    least = least or {}
    return {
        name: max(float(scores.max(initial=0.0)), SHARE_FLOOR, least.get(name, 0.0))
        for name, scores in relevance.items()
    }


def share(relevance: Mapping[str, Scores], best: Mapping[str, float]) -> dict[str, Scores]:
    """Returns each score as a share of the best."""
    return {name: scores / best[name] for name, scores in relevance.items()}


def score_words(query: str, texts: Sequence[str], background: Sequence[str] = ()) -> Scores:
    """Returns Okapi BM25 of each text, divided by the most that any text could reach: 0 to 1.

    Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with the
    non-negative inverse document frequency that Lucene uses. A text's words are its own and its glosses'.
    Candidates that were chosen for their words would make those words look common: then `background` says
    how rare they are.
    """
    documents = [_document(text) for text in texts]
    others = [_document(text) for text in background] or documents
    lengths = np.array([len(document) for document in documents], np.float64)
    usual = sum(map(len, others)) / max(len(others), 1)
    scores = np.zeros(len(texts), np.float64)
    if not len(texts) or not lengths.any() or not usual:
        return scores
    norms = BM25_K1 * (1 - BM25_B + BM25_B * lengths / usual)
    most = 0.0
    for word in dict.fromkeys(split_words(query)):
        counts = np.array([document.count(word) for document in documents], np.float64)
        holding = sum(word in document for document in others)
        rarity = math.log(1 + (len(others) - holding + 0.5) / (holding + 0.5))
        most += rarity * (BM25_K1 + 1)
        scores += rarity * counts * (BM25_K1 + 1) / (counts + norms)
    return scores / most if most else scores


def score_vectors(query: Vectors, vectors: Vectors) -> Scores:
    """Returns the cosine of each row with the query, negative ones as 0; all are unit vectors."""
    # float64 keeps the sum's rounding, which may depend on memory layout, below the decimals that are kept.
    return np.clip(vectors.astype(np.float64) @ query.astype(np.float64), 0.0, 1.0)


def score_recency(event_us: Integers, kinds: Sequence[Kind], as_of_us: int) -> Scores:
    """Returns exp(-age / scale) of each, with its kind's scale; worked out at `as_of`, never stored.

    The layers of FinMem (Yu et al. 2023): days for what passes, a quarter, a year for what was learned.
    """
    days = np.maximum(as_of_us - event_us, 0) / 86_400e6
    return np.exp(-days / np.array([DECAY_DAYS[kind] for kind in kinds], np.float64))


def score_importance(importance: Scores, kinds: Sequence[Kind]) -> Scores:
    """Returns the importance that was given, else the kind's."""
    return np.where(
        np.isnan(importance), np.array([IMPORTANCE[kind] for kind in kinds], np.float64), importance
    )


def score_regimes(asked: Scores, regimes: Vectors) -> Scores:
    """Returns exp(-d^2 / 33) for the distance d of each regime vector from the one asked for.

    All 33 numbers are in deviations, so two independent markets stand at about d^2 = 66: .14. A memory
    without a regime has 0.
    """
    square = np.square(regimes.astype(np.float64) - asked).sum(axis=1)
    return np.nan_to_num(np.exp(-square / asked.size), nan=0.0)


def score_context(by_relevance: Scores, event_us: Integers) -> Scores:
    """Returns what the memories around each are worth, in the order of events.

    Two parts of the better of the two beside it, and one part of the better of the two beyond those.
    """
    order = np.argsort(event_us, kind="stable")
    inner = by_relevance[order]
    scores = np.empty_like(inner)
    scores[order] = (2 * _better(inner, 1) + _better(inner, 2)) / 3
    return scores


def _better(scores: Scores, steps: int) -> Scores:
    """Returns the better score of the two that stand so many steps before and after each; 0 for none."""
    found = np.zeros(len(scores), np.float64)
    if len(scores) > steps:
        found[steps:] = scores[:-steps]
        found[:-steps] = np.maximum(found[:-steps], scores[steps:])
    return found


def fuse(parts: Mapping[str, Scores], weights: Mapping[str, float]) -> Scores:
    """Returns the weighted mean of the parts, rounded to `SCORE_DECIMALS`.

    Reciprocal-rank fusion throws away how far apart two candidates are, and measured worse.
    """
    total = sum(weights[name] for name in parts)
    # Summed in a fixed order: the last bit of a sum depends on it.
    return np.round(sum(weights[name] / total * parts[name] for name in sorted(parts)), SCORE_DECIMALS)


@functools.lru_cache(maxsize=25_000)  # what is scored in full, and some
def _document(text: str) -> tuple[str, ...]:
    """Returns the words that a text is found by; a store's texts are asked for again and again."""
    return tuple(split_words(explain(text)))


@functools.lru_cache(maxsize=50_000)
def _reduce(word: str) -> str:
    """Returns the word's stem, or "" for a stop word; a vocabulary is small beside its texts."""
    return "" if word in _STOP_WORDS else stem(word)
