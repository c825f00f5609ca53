"""Cross-sections against their definitions, on made-up moments and on real ones."""

import math

import polars as pl
import pytest

from neural_trader_tools.features import cross_section
from neural_trader_tools.features.cross_section import CROSS_SECTIONS

FRAME = pl.DataFrame(
    {
        "event_time": [1, 1, 1, 1, 2, 2, 2, 3],
        "symbol": ["a", "b", "c", "d", "a", "b", "c", "a"],
        "x": [10.0, 30.0, 20.0, 20.0, 5.0, math.nan, None, 7.0],
    }
)


def test_ranks_share_ties_and_skip_what_is_missing() -> None:
    assert cross_section.percent_rank(FRAME, "x").to_list() == [0, 1, 0.5, 0.5, None, None, None, None]


def test_scores_have_mean_nought_and_sample_deviation_one() -> None:
    scores = cross_section.zscore(FRAME, "x")
    assert scores.head(4).mean() == pytest.approx(0)
    assert scores.head(4).std() == pytest.approx(1)
    assert scores.tail(4).null_count() == 4
    assert cross_section.zscore(FRAME.with_columns(x=pl.lit(0.1)), "x").null_count() == 8


def test_demeaned_values_add_up_to_nought() -> None:
    assert cross_section.demeaned(FRAME, "x").to_list() == [-10, 10, 0, 0, 0, None, None, 0]


def test_buckets_are_equal_and_none_where_there_are_too_few() -> None:
    halves = cross_section.bucket(FRAME, "x", buckets=2)
    assert sorted(halves.head(4).to_list()) == [1, 1, 2, 2]
    assert halves.tail(4).null_count() == 4
    with pytest.raises(ValueError, match="invalid_buckets"):
        cross_section.bucket(FRAME, "x", buckets=1)


@pytest.mark.parametrize("name", sorted(CROSS_SECTIONS))
def test_a_moment_knows_nothing_of_others_and_the_order_of_rows_is_kept(name: str) -> None:
    of = CROSS_SECTIONS[name]
    whole = of(FRAME, "x")
    assert whole.head(4).equals(of(FRAME.head(4), "x"))
    turned = FRAME.sort("symbol", "event_time", descending=True).with_columns(
        of(FRAME.sort("symbol", "event_time", descending=True), "x").alias("y")
    )
    if name != "bucket":  # ties take the rows' order there
        assert turned.sort("event_time", "symbol")["y"].to_list() == whole.to_list()
    with pytest.raises(ValueError, match="missing_column"):
        of(FRAME, "z")
