"""Which candidates answer a question best, and why: parts of a score, and the places that trust gives.

Two pools are scored apart: what the desk, its people and its agents wrote, and what came from outside.
Nothing in the second pool enters the word statistics, the scores or the order of the first, so memories that
somebody planted cannot push the others down; of `k` places they get at most half, unless some stay empty.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from neural_trader_governance.terms.clocks import to_epoch_us
from neural_trader_memory import ranking
from neural_trader_memory.embedders.port import Vectors
from neural_trader_memory.ranking import WEIGHTS, Integers, Scores
from neural_trader_memory.records import Kind

Key = tuple[str, str]
"""One row: a memory's id and its content hash; two processes may have made one revision twice."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What ranking reads, ordered by (known_time, memory_id, rev), row for row.

    Attributes:
        keys: Id and content hash of each.
        trusted: Whether it is verified or asserted, and not from outside.
        importance: NaN where none was given.
        regimes: Shape (n, 33); NaN where a memory has none.
        background: Texts that tell how rare words are, where the candidates were chosen from many; empty
            where they are all there is.
    """

    keys: list[Key]
    texts: list[str]
    vectors: Vectors
    kinds: list[Kind]
    trusted: NDArray[np.bool_]
    event_us: Integers
    importance: Scores
    regimes: Vectors
    background: Sequence[str] = ()

    def take(self, rows: Sequence[int]) -> "Candidates":
        """Returns some of them, in the order given."""
        return Candidates(
            keys=[self.keys[at] for at in rows],
            texts=[self.texts[at] for at in rows],
            vectors=self.vectors[rows],
            kinds=[self.kinds[at] for at in rows],
            trusted=self.trusted[rows],
            event_us=self.event_us[rows],
            importance=self.importance[rows],
            regimes=self.regimes[rows],
            background=self.background,
        )

    def beside(self, keys: Sequence[Key]) -> dict[Key, tuple[Key, ...]]:
        """Returns the memories before and after each of some, in the order of events, of the same trust."""
        wanted, near = set(keys), dict[Key, tuple[Key, ...]]()
        for pool in (np.flatnonzero(self.trusted), np.flatnonzero(~self.trusted)):
            order: list[int] = pool[np.argsort(self.event_us[pool], kind="stable")].tolist()
            for place, at in enumerate(order):
                if self.keys[at] in wanted:
                    around = (*order[max(place - 1, 0) : place], *order[place + 1 : place + 2])
                    near[self.keys[at]] = tuple(self.keys[each] for each in around)
        return near


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: words with their vector, a regime, or both.

    Attributes:
        vector: Of `text`; None where only a regime is asked for.
        context: Whether memories beside a good one in time count for more.
    """

    text: str
    vector: Vectors | None
    regime: tuple[float, ...] | None
    as_of: datetime
    context: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a score.

    Attributes:
        value: What this part says, 0 to 1.
        weight: Its share in the whole; the weights of a score sum to 1.
    """

    name: str
    value: float
    weight: float


@dataclass(frozen=True, slots=True)
class Ranked:
    """One candidate that was chosen: its key, its score, and what the score is made of."""

    key: Key
    score: float
    parts: tuple[Part, ...]


def rank(question: Question, found: Candidates, k: int) -> list[Ranked]:
    """Returns the `k` best candidates: trusted ones first, each group best first, of equals the newer."""
    rows = np.arange(len(found.keys))
    if found.trusted.all():  # as it mostly is: nothing to part, and the vectors are not copied
        return _ranked(question, found, k)[0]
    own, best = _ranked(question, found.take(rows[found.trusted].tolist()), k)
    # What came from outside is held against the best of ours, or the best of nothing would look like much.
    strange, _ = _ranked(question, found.take(rows[~found.trusted].tolist()), k, best)
    # The first half of the places is what it would be if nothing had ever come from outside.
    kept = own[: max(k - k // 2, 0)]
    rest = sorted([*own[len(kept) :], *strange], key=lambda each: -each.score)[: k - len(kept)]
    trusted = {each.key for each in own}
    return [
        *kept,
        *(each for each in rest if each.key in trusted),
        *(each for each in rest if each.key not in trusted),
    ]


def _ranked(
    question: Question, found: Candidates, k: int, least: Mapping[str, float] | None = None
) -> tuple[list[Ranked], Mapping[str, float]]:
    """Returns the `k` best of one pool, and what counted in full there."""
    if not found.keys:
        return [], {}
    parts, full = score(question, found, least)
    total = sum(WEIGHTS[name] for name in parts)
    scores = ranking.fuse(parts, WEIGHTS)
    # Candidates come oldest first: of equal scores, the later position is the newer memory.
    best: list[int] = np.lexsort((np.arange(len(scores)), scores))[::-1][:k].tolist()
    ranked = [
        Ranked(
            found.keys[at],
            float(scores[at]),
            tuple(
                Part(name, round(float(values[at]), ranking.SCORE_DECIMALS), WEIGHTS[name] / total)
                for name, values in parts.items()
            ),
        )
        for at in best
    ]
    return ranked, full


def score(
    question: Question, found: Candidates, least: Mapping[str, float] | None = None
) -> tuple[Mapping[str, Scores], Mapping[str, float]]:
    """Returns each part of each candidate's score, which depend on what was asked, and what counts in full.

    Args:
        question: What is asked.
        found: The candidates.
        least: What counts in full at the least, by part.
    """
    parts: dict[str, Scores] = {}
    full: Mapping[str, float] = {}
    if question.vector is not None:
        relevance = ranking.relevance(
            question.text, question.vector, found.texts, found.vectors, found.background
        )
        full = ranking.measure_best(relevance, least)
        parts |= ranking.share(relevance, full)
        if question.context:
            both = ranking.fuse(parts, WEIGHTS)
            parts["context"] = ranking.score_context(both, found.event_us)
    if question.regime is not None:
        parts["regime"] = ranking.score_regimes(np.array(question.regime, np.float64), found.regimes)
    parts["recency"] = ranking.score_recency(found.event_us, found.kinds, to_epoch_us(question.as_of))
    parts["importance"] = ranking.score_importance(found.importance, found.kinds)
    return parts, full
