"""Longer bars: each bar knows those that were over before it, and no other."""

import numpy as np
import polars as pl
import pytest

from neural_trader_tools.engine.interval import coarse_bars
from neural_trader_tools.features.intervals import on_interval


def minutes(days: int, first_hour: int, per_day: int, seed: int = 0) -> pl.DataFrame:
    """Bars of one minute in a session that begins at an hour of every day."""
    starts = pl.datetime_range(
        pl.datetime(2024, 3, 1, first_hour), pl.datetime(2024, 3, days, first_hour), "1d", eager=True
    )
    time = np.concatenate(
        [start + np.arange(per_day) * np.timedelta64(1, "m") for start in starts.to_numpy()]
    )
    close = 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.001, len(time))))
    utc = pl.Series(time).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return pl.DataFrame({"time": utc}).with_columns(
        open=pl.Series(close), high=pl.Series(close) * 1.001, low=pl.Series(close) * 0.999,
        close=pl.Series(close), volume=pl.lit(10.0),
    )  # fmt: skip


def test_longer_bars_are_first_highest_lowest_last_and_sum() -> None:
    bars = minutes(3, 14, 90)
    longer, numbers = coarse_bars(bars, "1d")
    day = bars[90:180]
    assert longer.row(1)[1:] == (
        day["open"][0], day["high"].max(), day["low"].min(), day["close"][-1], 900.0,
    )  # fmt: skip
    assert numbers.tolist() == [0] * 90 + [1] * 90 + [2] * 90
    assert coarse_bars(bars, "1h")[0].height == 6


def test_a_bar_knows_the_last_longer_bar_that_was_over() -> None:
    bars = minutes(4, 14, 90)
    found = on_interval(bars, "close", "1d").to_numpy()
    assert np.isnan(found[:90]).all()
    for day in (1, 2, 3):
        assert (found[day * 90 : (day + 1) * 90] == bars["close"][day * 90 - 1]).all()
    mean = on_interval(bars, "sma(2)", "1d").to_numpy()
    assert mean[-1] == pytest.approx((bars["close"][179] + bars["close"][269]) / 2)


@pytest.mark.parametrize("interval", ["5m", "1h", "1d", "1w"])
@pytest.mark.parametrize("expression", ["close", "ema(3)", "high"])
def test_what_comes_later_changes_nothing_before_it(interval: str, expression: str) -> None:
    bars = minutes(12, 14, 90)
    whole = on_interval(bars, expression, interval).to_numpy()
    for cut in (1, 89, 90, 91, 433, 720, bars.height - 1):
        np.testing.assert_array_equal(
            on_interval(bars.head(cut), expression, interval).to_numpy(), whole[:cut]
        )


def test_symbols_of_different_sessions_are_taken_by_themselves() -> None:
    one, other = minutes(5, 8, 60, seed=1), minutes(5, 14, 90, seed=2)
    both = pl.concat([one.with_columns(symbol=pl.lit("L")), other.with_columns(symbol=pl.lit("N"))])
    both = both.sort("time", "symbol")
    found = both.with_columns(v=on_interval(both, "sma(2)", "1h"))
    for name, alone in (("L", one), ("N", other)):
        mine = found.filter(pl.col("symbol") == name)["v"].to_numpy()
        np.testing.assert_array_equal(mine, on_interval(alone, "sma(2)", "1h").to_numpy())


@pytest.mark.parametrize(("expression", "interval"), [("close", "5y"), ("close", "0d"), ("smaa(2)", "1d")])
def test_a_mistake_is_a_value_error(expression: str, interval: str) -> None:
    with pytest.raises(ValueError, match=r"5y|0d|smaa"):
        on_interval(minutes(2, 9, 5), expression, interval)
