"""The numbers of a tear sheet: months, rolling Sharpe ratios, and curves thinned without losing a peak."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.report.sheet import Sheet, calendar, rolling_sharpe
from neural_trader_tools.backtest.report.thinning import spread_out, thin


def moments(*days: tuple[int, int, int]) -> np.ndarray:
    return np.array([int(datetime(*day, tzinfo=UTC).timestamp()) * 1_000_000 for day in days])


def test_each_month_begins_where_the_one_before_ended() -> None:
    times = moments((2019, 12, 30), (2019, 12, 31), (2020, 1, 2), (2020, 1, 31), (2020, 3, 2))
    months, years = calendar(times, np.array([101.0, 110.0, 50.0, 99.0, 198.0]), 100.0)
    assert months == pytest.approx({(2019, 12): 0.1, (2020, 1): -0.1, (2020, 3): 1.0})
    assert years == pytest.approx({2019: 0.1, 2020: 0.8})


def test_months_and_years_make_the_whole_return(sheet_of: Callable[..., Sheet], msft: Prices) -> None:
    sheet = sheet_of(msft)
    for parts in (sheet.months, sheet.years):
        whole = np.prod([1 + value for value in parts.values()]) * 100_000.0
        assert whole == pytest.approx(sheet.equity[-1], rel=1e-12)


def test_the_rolling_sharpe_ratio_is_that_of_the_last_returns(
    sheet_of: Callable[..., Sheet], msft: Prices
) -> None:
    sheet = sheet_of(msft)
    returns = pl.Series(sheet.equity).pct_change()
    expected = (returns.rolling_mean(126) / returns.rolling_std(126) * 252**0.5).to_numpy()
    moved = (returns.rolling_std(126) > 1e-6).fill_null(value=False).to_numpy()
    assert sheet.window == 126
    assert moved.sum() > 2_000
    np.testing.assert_allclose(sheet.rolling[moved], expected[moved], rtol=1e-7, atol=1e-9)
    assert np.isnan(sheet.rolling[:126]).all()


def test_no_sharpe_ratio_is_shown_where_nothing_moves_or_all_is_lost() -> None:
    assert np.isnan(rolling_sharpe(np.full(100, 5.0), 20, 252.0)).all()
    assert np.isnan(rolling_sharpe(np.linspace(100.0, -1.0, 100), 20, 252.0)).all()


def test_the_top_trades_are_those_that_moved_the_result_most(
    sheet_of: Callable[..., Sheet], msft: Prices
) -> None:
    sheet = sheet_of(msft)
    moved = sheet.trades["pnl"].abs().sort(descending=True)
    assert sheet.top_trades["pnl"].abs().to_list() == moved.head(20).to_list()
    assert len(sheet.returns) == sheet.record.metrics["trade_count"]  # type: ignore[index]


def test_trials_that_came_later_are_counted(sheet_of: Callable[..., Sheet], msft: Prices) -> None:
    alone, many = sheet_of(msft), sheet_of(msft, others=[0.05, -0.03, None, 0.01])
    assert (alone.trials_now, many.trials_now) == (1, 5)
    assert many.deflated_now < alone.deflated_now  # type: ignore[operator]


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-1e9, 1e9) | st.just(float("nan")), min_size=1, max_size=400),
    columns=st.integers(1, 30),
)
def test_thinning_keeps_the_extremes_and_the_ends_of_each_column(values: list[float], columns: int) -> None:
    curve = np.array(values)
    kept = thin(curve, columns)
    assert (np.diff(kept) > 0).all()
    assert len(kept) <= 4 * columns or len(kept) == len(curve) <= 4 * columns
    assert kept[0] == 0
    assert kept[-1] == len(curve) - 1
    borders = np.linspace(0, len(curve), columns + 1).astype(int)
    for first, end in itertools.pairwise(borders):
        known = curve[first:end][~np.isnan(curve[first:end])]
        shown = curve[kept[(kept >= first) & (kept < end)]]
        if len(known):
            assert np.nanmin(shown) == known.min()
            assert np.nanmax(shown) == known.max()


def test_marks_are_spread_over_the_columns() -> None:
    marks = np.sort(np.random.default_rng(3).integers(0, 100_000, 5_000))
    kept = spread_out(marks, 100_000, 50)
    assert len(kept) == 50
    assert len(set(marks[kept] * 50 // 100_000)) == 50
