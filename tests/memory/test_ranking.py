import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_memory.ranking import BM25_B, BM25_K1, fuse, score_vectors, score_words, split_words

words = st.lists(st.sampled_from(["gap", "stop", "AAPL", "trend", "exit", "the", "62,000"]), max_size=8).map(
    " ".join
)


def test_bm25_agrees_with_its_formula_worked_by_hand() -> None:
    scores = score_words("gap", ["gap gap stop", "stop"])
    rarity = math.log(1 + (2 - 1 + 0.5) / (1 + 0.5))
    part = 2 / (2 + BM25_K1 * (1 - BM25_B + BM25_B * 3 / 2))
    assert scores == pytest.approx([rarity * part * (BM25_K1 + 1) / (rarity * (BM25_K1 + 1)), 0.0])


@given(words, st.lists(words, max_size=6))
def test_word_scores_lie_between_nothing_and_one(query: str, texts: list[str]) -> None:
    scores = score_words(query, texts)
    assert len(scores) == len(texts)
    assert np.isfinite(scores).all()
    assert ((scores >= 0) & (scores <= 1)).all()


@given(words, st.lists(words, min_size=1, max_size=6))
def test_a_text_without_a_word_of_the_query_scores_nothing(query: str, texts: list[str]) -> None:
    for text, score in zip(texts, score_words(query, texts), strict=True):
        assert (score > 0) == bool(set(split_words(query)) & set(split_words(text)))


def test_a_rare_word_weighs_more_than_a_common_one() -> None:
    rare, common = score_words("squeeze trend", ["squeeze", "trend", "trend"])[:2]
    assert rare > common


def test_endings_case_and_stop_words_do_not_matter() -> None:
    assert split_words("The stops were Triggered") == split_words("stop trigger")


def test_opposite_vectors_score_nothing_and_fusion_is_rounded() -> None:
    vectors = np.array([[1, 0], [-1, 0], [0.6, 0.8]], np.float32)
    scores = score_vectors(np.array([1, 0], np.float32), vectors)
    assert scores == pytest.approx([1, 0, 0.6], abs=1e-6)
    assert fuse(scores, np.array([0.0, 1.0, 0.5])).tolist() == [0.6, 0.4, 0.56]
