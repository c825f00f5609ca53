"""The few of many memories that ranking looks at, where a scope holds too many to score each of them.

    scanned     every row in scope is measured, roughly and at once; the best by meaning, by words and by
                regime stay. What stays follows from the rows in scope alone: later rows cannot move it
    looked up   the same by indices, in milliseconds. Indices know the whole table, also what is known only
                later, so they serve questions about the present and nothing else

Trusted and untrusted memories are narrowed apart, each only where there are too many of them, so that planted
ones crowd out no others.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from anyio import create_task_group, to_thread
from numpy.typing import NDArray

from neural_trader_memory.indices import DISTANCE, NPROBES, REFINE
from neural_trader_memory.ranking import Scores, score_regimes, score_vectors, split_words
from neural_trader_memory.recall import Question
from neural_trader_memory.records import REGIME_DIMENSION, TRUSTED
from neural_trader_memory.revisions import Scope, quote

WIDE: Final = 5_000
"""Up to so many rows in scope, each is scored in full."""
KEPT: Final = 100
"""By each of meaning, words and regime, of each trust; the most that a search gives back is 50."""
SAMPLE: Final = 1_000
"""Texts from which the rarity of words is estimated."""

ROOT_CHARS: Final = 4

_DECIMALS = 6
_WORDS_MAX = 63
_COLUMNS = ("memory_id", "known_time", "event_time", "text", "vector", "regime")
_TRUSTED = f"trust IN ({', '.join(map(quote, sorted(TRUSTED)))})"
_OTHERS = f"NOT ({_TRUSTED}) AND trust <> 'quarantined'"
Bits = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Wide:
    """A scope, at least one half of which holds too many rows to score each of them.

    Attributes:
        trusted: How many rows its trusted half has.
        others: How many the other.
        present: Whether it is asked about this very moment, which all rows that there are precede: then
            counts are of rows and not of what is visible of them.
    """

    scope: Scope
    trusted: int
    others: int
    present: bool

    @property
    def halves(self) -> list[str]:
        """Returns the SQL conditions of the halves that have to be narrowed."""
        base = self.scope.chosen if self.present else f"({self.scope.where})"
        sides = ((_TRUSTED, self.trusted), (_OTHERS, self.others))
        return [f"{base} AND {trust}" for trust, rows in sides if rows > WIDE]

    def among(self, names: Sequence[str]) -> str:
        """Returns the condition of the named memories, of the halves that are small, and of all revisions."""
        parts = ["rev > 1", *([f"memory_id IN ({', '.join(map(quote, names))})"] if names else [])]
        if self.trusted <= WIDE:
            parts.append(_TRUSTED)
        if self.others <= WIDE:
            parts.append(f"NOT ({_TRUSTED})")
        return f"({self.scope.where}) AND ({' OR '.join(parts)})"


async def measure(table: Any, scope: Scope, *, present: bool) -> Wide | None:
    """Returns a scope's size where it is wide, else None.

    As of a moment the scope's own rows decide and never the table's: what is known later must change no
    path, and what came from outside none of what is trusted.
    """
    if await table.count_rows() <= WIDE:
        return None
    base = scope.chosen if present else f"({scope.where})"
    every = int(await table.count_rows(base))
    if every <= WIDE:
        return None
    others = int(await table.count_rows(f"{base} AND {_OTHERS}"))
    found = Wide(scope, every - others, others, present)
    return found if found.halves else None


async def scan(table: Any, wide: Wide, question: Question) -> list[str]:
    """Returns the ids of the memories that may be among the best, from every row in scope.

    With `question.context`, those beside them in time are among them.
    """
    words = list(dict.fromkeys(split_words(question.text)))[:_WORDS_MAX]
    found: list[str] = []
    for half in replace(wide, present=False).halves:
        batches = await table.query().where(half).select(list(_COLUMNS)).to_batches()
        parts = [await to_thread.run_sync(_measure, each, question, words) async for each in batches]
        found += await to_thread.run_sync(_best, parts, len(words), question.context)
    return sorted(found)


async def look_up(table: Any, wide: Wide, question: Question) -> list[str]:
    """Returns the ids of the memories that may be among the best, by the indices of the whole table.

    Only for a question about the present that asks by text, and for a table whose indices are there. Rows
    that are not in an index yet are looked at one by one.
    """
    found: dict[str, None] = {}

    async def run(query: Any, told: str) -> None:
        rows = await query.select(["memory_id", told]).limit(KEPT).to_arrow()
        found.update(dict.fromkeys(rows.column("memory_id").to_pylist()))

    match = importlib.import_module("lancedb.query").MatchQuery(question.text, "text")
    async with create_task_group() as group:
        for half in wide.halves:
            near = table.query().nearest_to(question.vector).distance_type(DISTANCE)
            group.start_soon(run, near.nprobes(NPROBES).refine_factor(REFINE).where(half), "_distance")
            group.start_soon(run, table.query().nearest_to_text(match).where(half), "_score")
    return sorted(found)


async def sample_texts(table: Any, wide: Wide) -> list[str]:
    """Returns about `SAMPLE` of the trusted texts in scope, chosen by their hashes and so always the same.

    None where all trusted ones are scored: their words speak for themselves.
    """
    if wide.trusted <= WIDE:
        return []
    bound = f"{int(SAMPLE / wide.trusted * 16**8):08x}"
    base = wide.scope.chosen if wide.present else f"({wide.scope.where})"
    where = f"{base} AND {_TRUSTED} AND content_hash < '{bound}'"
    found = await table.query().where(where).select(["content_hash", "text"]).to_arrow()
    return found.sort_by("content_hash").column("text").to_pylist()


@dataclass(frozen=True, slots=True)
class _Measured:
    """What a scan keeps of each row."""

    names: list[str]
    known_us: NDArray[np.int64]
    event_us: NDArray[np.int64]
    vector: Scores | None
    regime: Scores | None
    words: Bits


def _measure(batch: Any, question: Question, words: Sequence[str]) -> _Measured:
    compute = importlib.import_module("pyarrow.compute")
    count = batch.num_rows

    def micros(name: str) -> NDArray[np.int64]:
        return np.asarray(batch.column(name).cast("int64"), np.int64)

    vector = regime = None
    if question.vector is not None:
        values = np.asarray(batch.column("vector").flatten(), np.float32).reshape(count, -1)
        vector = np.round(score_vectors(question.vector, values), _DECIMALS)
    if question.regime is not None:
        none = np.full(REGIME_DIMENSION, np.nan, "<f4").tobytes()
        kept = b"".join(each or none for each in batch.column("regime").to_pylist())
        values = np.frombuffer(kept, "<f4").reshape(count, REGIME_DIMENSION)
        regime = np.round(score_regimes(np.array(question.regime, np.float64), values), _DECIMALS)
    bits = np.zeros(count, np.int64)
    lower = compute.utf8_lower(batch.column("text")) if words else None
    for place, word in enumerate(words):
        # A stem may end unlike its words ("compani") or lie inside others; all this is scored in full later.
        root = word[:-1] if len(word) > ROOT_CHARS else word
        bits |= np.asarray(compute.match_substring(lower, root), np.int64) << place
    return _Measured(
        names=batch.column("memory_id").to_pylist(),
        known_us=micros("known_time"),
        event_us=micros("event_time"),
        vector=vector,
        regime=regime,
        words=bits,
    )


def _best(parts: Sequence[_Measured], words: int, context: bool) -> list[str]:
    names = np.array([name for part in parts for name in part.names], object)
    known_us = np.concatenate([part.known_us for part in parts])
    measures = [
        np.concatenate(values)
        for kind in ("vector", "regime")
        if (values := [each for part in parts if (each := getattr(part, kind)) is not None])
    ]
    if words:
        measures.append(_rarity(np.concatenate([part.words for part in parts]), words))
    best = {at for scores in measures for at in _top(scores, known_us, names)}
    if context:
        event_us = np.concatenate([part.event_us for part in parts])
        best |= _beside(best, np.lexsort((names, known_us, event_us)))
    return list({names[at] for at in best})


def _rarity(bits: Bits, words: int) -> Scores:
    """Returns the summed rarity of the words that each row holds: BM25 but for counts and lengths."""
    scores = np.zeros(bits.size)
    for place in range(words):
        holds = (bits >> place) & 1
        holding = int(holds.sum())
        scores += holds * np.log(1 + (bits.size - holding + 0.5) / (holding + 0.5))
    return np.round(scores, _DECIMALS)


def _top(scores: Scores, known_us: NDArray[np.int64], names: NDArray[Any]) -> list[int]:
    """Returns where the best lie, of equals the newer, of those the later name; what scores 0 is none."""
    place = max(scores.size - KEPT, 0)
    least = np.partition(scores, place)[place]
    near = np.flatnonzero((scores >= least) & (scores > 0))
    order = np.lexsort((names[near], known_us[near], scores[near]))[::-1][:KEPT]
    return near[order].tolist()


def _beside(chosen: set[int], ordered: NDArray[Any]) -> set[int]:
    places = np.flatnonzero(np.isin(ordered, list(chosen)))
    around = np.concatenate([places - 1, places + 1])
    return set(ordered[around[(around >= 0) & (around < ordered.size)]].tolist())
