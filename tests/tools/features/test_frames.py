"""Many features and many symbols at once: nothing but what one at a time would give."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neural_trader_tools.features import catalogue
from neural_trader_tools.features.definitions import DEFINITIONS
from neural_trader_tools.features.frames import evaluate_all, evaluate_frame
from neural_trader_tools.market.archive import Archive

SYMBOLS = ("AAPL", "IBM", "MSFT", "GOOG")
EVERY = [one.example for one in DEFINITIONS.values()]


@pytest.fixture(scope="module")
def market(sample: Archive) -> pl.DataFrame:
    """Four symbols, one below the other."""
    return pl.concat(sample.bars(symbol).with_columns(symbol=pl.lit(symbol)) for symbol in SYMBOLS)


def test_each_symbol_of_a_long_frame_is_computed_as_if_alone(market: pl.DataFrame) -> None:
    frame = evaluate_frame(EVERY, market, symbol="symbol", threads=2)
    assert frame.columns == ["symbol", "event_time", "known_time", *EVERY]
    for name in SYMBOLS:
        alone = evaluate_frame(EVERY, market.filter(pl.col("symbol") == name))
        assert frame.filter(pl.col("symbol") == name).drop("symbol").equals(alone)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(SYMBOLS), lengths=st.lists(st.integers(0, 80), min_size=4, max_size=4))
def test_the_order_of_symbols_and_short_ones_change_nothing(
    market: pl.DataFrame, order: list[str], lengths: list[int]
) -> None:
    asked = ["ema(5)", "rsi(3)", "bbands(4,2).lower", "obv", "sar"]
    parts = [
        market.filter(pl.col("symbol") == name).head(length)
        for name, length in zip(order, lengths, strict=True)
    ]
    together = evaluate_frame(asked, pl.concat(parts), symbol="symbol")
    for name, part in zip(order, parts, strict=True):
        alone = evaluate_frame(asked, part)
        assert together.filter(pl.col("symbol") == name).drop("symbol").equals(alone)


def test_threads_change_no_bit(market: pl.DataFrame) -> None:
    one = evaluate_all(EVERY, market, symbol="symbol", threads=1)
    two = evaluate_all(EVERY, market, symbol="symbol", threads=2)
    for expression in EVERY:
        np.testing.assert_array_equal(one[expression], two[expression], err_msg=expression)


def test_values_are_those_of_one_expression_at_a_time_and_null_where_undefined(apple: pl.DataFrame) -> None:
    asked = ["bbands(20,2).upper", "bbands(20,2).lower", " RSI(14)"]
    frame = evaluate_frame(asked, apple)
    for expression in asked:
        values = catalogue.evaluate(expression, apple)
        np.testing.assert_array_equal(frame[expression].fill_null(np.nan).to_numpy(), values)
        assert frame[expression].null_count() == np.isnan(values).sum()


def test_frames_in_disorder_are_refused(market: pl.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"scattered_symbol.*sort the frame"):
        evaluate_all(["rsi"], market.sort("event_time", "symbol"), symbol="symbol")
    with pytest.raises(ValueError, match=r"unsorted_times: row 1 of AAPL"):
        evaluate_all(["rsi"], market.head(5).reverse(), symbol="symbol")
    with pytest.raises(ValueError, match=r"unsorted_times"):
        evaluate_all(["rsi"], market.head(1).vstack(market.head(1)), symbol="symbol")
    with pytest.raises(ValueError, match="missing_column"):
        evaluate_all(["rsi"], market, symbol="ticker")


def test_the_calendar_reads_the_bars_opens_with_an_offset() -> None:
    start = datetime(2023, 12, 31, 23, 30, tzinfo=UTC)
    bars = pl.DataFrame({"time": [start, start + timedelta(hours=1), datetime(2024, 2, 28, 14, tzinfo=UTC)]})
    asked = {
        "day_of_week": [7, 1, 3],
        "day_of_week(1)": [1, 1, 3],
        "day_of_month": [31, 1, 28],
        "month": [12, 1, 2],
        "days_to_month_end": [0, 30, 1],
        "minute_of_day": [1410, 30, 840],
        "minutes_since_open(2)": [0, 60, 0],
    }
    for expression, expected in asked.items():
        assert catalogue.evaluate(expression, bars).tolist() == expected, expression
    with pytest.raises(ValueError, match="missing_column: month reads the bars' times"):
        catalogue.evaluate("month", pl.DataFrame({"close": [1.0]}))


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)))  # noqa: DTZ001 (hypothesis takes naive bounds)
def test_the_calendar_agrees_with_pythons(moment: datetime) -> None:
    bars = pl.DataFrame({"time": pl.Series([moment], dtype=pl.Datetime("us", "UTC"))})
    assert catalogue.evaluate("day_of_week", bars)[0] == moment.isoweekday()
    assert catalogue.evaluate("day_of_month", bars)[0] == moment.day
    assert catalogue.evaluate("month", bars)[0] == moment.month
    later = moment + timedelta(days=catalogue.evaluate("days_to_month_end", bars)[0] + 1)
    assert later.day == 1
