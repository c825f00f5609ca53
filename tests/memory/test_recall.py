"""How two pools share the places: what came from outside is held against the best of ours."""

from datetime import UTC, datetime

import numpy as np
import pytest

from neural_trader_memory.recall import Candidates, Question, rank
from neural_trader_memory.records import REGIME_DIMENSION

NOW = datetime(2024, 3, 1, tzinfo=UTC)


def candidates(cosines: list[float], trusted: list[bool]) -> Candidates:
    count = len(cosines)
    vectors = np.array([[cosine, (1 - cosine * cosine) ** 0.5] for cosine in cosines], np.float32)
    return Candidates(
        keys=[(f"mem-{at}", "") for at in range(count)],
        texts=["heron"] * count,
        vectors=vectors,
        kinds=["note"] * count,
        trusted=np.array(trusted),
        event_us=np.full(count, int(NOW.timestamp() * 1e6), np.int64),
        importance=np.full(count, np.nan),
        regimes=np.full((count, REGIME_DIMENSION), np.nan, np.float32),
    )


QUESTION = Question("ibis", np.array([1, 0], np.float32), None, NOW)


def names(cosines: list[float], trusted: list[bool], k: int) -> list[str]:
    return [each.key[0] for each in rank(QUESTION, candidates(cosines, trusted), k)]


def test_the_best_of_what_came_from_outside_is_not_good_for_being_the_best_there() -> None:
    assert names([0.9, 0.6, 0.5], [True, True, False], 2) == ["mem-0", "mem-1"]
    assert names([0.9, 0.6, 0.8], [True, True, False], 2) == ["mem-0", "mem-2"]


def test_nothing_from_outside_changes_the_scores_of_ours() -> None:
    alone = rank(QUESTION, candidates([0.9, 0.6], [True, True]), 2)
    beside = rank(QUESTION, candidates([0.9, 0.6, 0.99, 0.98], [True, True, False, False]), 4)
    assert beside[:2] == alone
    assert {each.key[0] for each in beside[2:]} == {"mem-2", "mem-3"}


def test_strangers_alone_are_held_against_each_other() -> None:
    found = rank(QUESTION, candidates([0.8, 0.4], [False, False]), 2)
    parts = [{part.name: part.value for part in each.parts} for each in found]
    assert [part["vector"] for part in parts] == pytest.approx([1, 0.5], abs=1e-4)
