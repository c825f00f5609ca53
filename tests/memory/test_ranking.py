import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_memory.glossary import explain
from neural_trader_memory.ranking import (
    BM25_B,
    BM25_K1,
    IMPORTANCE,
    SHARE_FLOOR,
    fuse,
    measure_best,
    score_context,
    score_importance,
    score_recency,
    score_regimes,
    score_vectors,
    score_words,
    share,
    split_words,
)

words = st.lists(st.sampled_from(["gap", "stop", "AAPL", "trend", "exit", "the", "62,000"]), max_size=8).map(
    " ".join
)


def test_bm25_agrees_with_its_formula_worked_by_hand() -> None:
    scores = score_words("heron", ["heron heron ibis", "ibis"])  # birds are in no glossary
    rarity = math.log(1 + (2 - 1 + 0.5) / (1 + 0.5))
    part = 2 / (2 + BM25_K1 * (1 - BM25_B + BM25_B * 3 / 2))
    assert scores == pytest.approx([rarity * part * (BM25_K1 + 1) / (rarity * (BM25_K1 + 1)), 0.0])


def test_a_note_is_found_by_the_plain_words_for_its_jargon() -> None:
    beverage, carmaker = score_words("beverage company", ["KO went nowhere.", "TSLA went nowhere."])
    assert beverage > carmaker


def test_the_best_candidate_counts_in_full_unless_even_it_says_little() -> None:
    said = {"vector": np.array([0.7, 0.35, 0.0]), "words": np.array([SHARE_FLOOR / 2, 0.0, 0.0])}
    shares = share(said, measure_best(said))
    assert shares["vector"].tolist() == [1.0, 0.5, 0.0]
    assert shares["words"].tolist() == [0.5, 0.0, 0.0]
    assert measure_best({"vector": np.array([])}) == {"vector": SHARE_FLOOR}
    assert measure_best(said, {"vector": 1.4}) == {"vector": 1.4, "words": SHARE_FLOOR}


@given(words, st.lists(words, max_size=6))
def test_word_scores_lie_between_nothing_and_one(query: str, texts: list[str]) -> None:
    scores = score_words(query, texts)
    assert len(scores) == len(texts)
    assert np.isfinite(scores).all()
    assert ((scores >= 0) & (scores <= 1)).all()


@given(words, st.lists(words, min_size=1, max_size=6))
def test_a_text_without_a_word_of_the_query_scores_nothing(query: str, texts: list[str]) -> None:
    for text, score in zip(texts, score_words(query, texts), strict=True):
        assert (score > 0) == bool(set(split_words(query)) & set(split_words(explain(text))))


def test_a_rare_word_weighs_more_than_a_common_one() -> None:
    rare, common = score_words("squeeze trend", ["squeeze", "trend", "trend"])[:2]
    assert rare > common


def test_endings_case_and_stop_words_do_not_matter() -> None:
    assert split_words("The stops were Triggered") == split_words("stop trigger")


def test_opposite_vectors_score_nothing_and_fusion_is_rounded() -> None:
    vectors = np.array([[1, 0], [-1, 0], [0.6, 0.8]], np.float32)
    scores = score_vectors(np.array([1, 0], np.float32), vectors)
    assert scores == pytest.approx([1, 0, 0.6], abs=1e-6)
    parts = {"vector": scores, "words": np.array([0.0, 1.0, 0.5])}
    assert fuse(parts, {"vector": 6, "words": 4, "regime": 99}).tolist() == [0.6, 0.4, 0.56]


DAY_US = 86_400_000_000


def test_recency_falls_to_a_third_over_the_scale_of_the_kind_and_never_rises() -> None:
    events = np.array([0, 10, 87, 90]) * DAY_US
    scores = score_recency(events, ["note", "order", "order", "order"], 90 * DAY_US)
    assert scores == pytest.approx([math.exp(-1), math.exp(-80 / 3), math.exp(-1), 1])


def test_importance_that_was_given_replaces_the_kinds() -> None:
    scores = score_importance(np.array([np.nan, 0.0, 1.0]), ["skill", "skill", "note"])
    assert scores.tolist() == [IMPORTANCE["skill"], 0, 1]


def test_the_same_regime_scores_one_a_far_one_nothing_and_none_nothing() -> None:
    asked = np.arange(33.0)
    regimes = np.stack([asked, asked + 1, asked + 100, np.full(33, np.nan)])
    assert score_regimes(asked, regimes.astype(np.float32)) == pytest.approx([1, math.exp(-1), 0, 0])


def test_context_is_the_better_beside_and_less_so_the_better_beyond_in_the_order_of_events() -> None:
    scores = score_context(np.array([0.1, 0.9, 0.3, 0.2]), np.array([30, 10, 20, 40]))
    in_time = [0.3 * 2 + 0.1, 0.9 * 2 + 0.2, 0.3 * 2 + 0.9, 0.1 * 2 + 0.3]  # of .9 .3 .1 .2
    assert scores == pytest.approx([in_time[at] / 3 for at in (2, 0, 1, 3)])
    assert score_context(np.array([0.5]), np.array([1])).tolist() == [0]
