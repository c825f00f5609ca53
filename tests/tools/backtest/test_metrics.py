"""Metrics against closed forms and hand-made equity curves."""

import math
from typing import Any

import numpy as np
import pytest

from neural_trader_tools.backtest import metrics as m
from neural_trader_tools.backtest.cautions import find_warnings
from neural_trader_tools.backtest.curve import drawdowns
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.records import trades_frame
from neural_trader_tools.backtest.replay import Replay, replay_symbol
from neural_trader_tools.backtest.settings import Settings

DAY = 86_400_000_000


def prices(closes: list[float]) -> Prices:
    close = np.array(closes, dtype=np.float64)
    times = np.arange(len(close), dtype=np.int64) * DAY
    return Prices("X", times, close, close.copy(), close.copy(), close.copy(), np.ones(len(close)))


def replay(closes: list[float], targets: list[float], **settings: Any) -> Replay:
    chosen = Settings(cash=1000, **settings)  # pyright: ignore[reportArgumentType]  # pydantic reads the int
    one = replay_symbol("signals", np.array(targets, dtype=np.float64), prices(closes), chosen, 1000.0)
    return Replay.combine([one], 1000.0)


def test_trade_statistics_of_one_gain_and_one_loss() -> None:
    run = replay([10, 10, 12, 12, 9, 9, 9], [1, 0, 0, 1, 0, 0, 0])
    # next open: in at 10 (bar 1), out at 12 (bar 2); in at 9 (bar 4), out at 9 (bar 5)
    result = m.compute_metrics(run, 252.0)
    assert result.equity_final == 1200.0
    assert result.return_total == pytest.approx(0.2)
    assert (result.trade_count, result.win_rate) == (2, 0.5)
    assert result.profit_factor is None
    assert result.expectancy == pytest.approx(0.1)
    assert result.max_drawdown == 0.0
    assert result.calmar_ratio is None
    assert result.exposure_time == pytest.approx(2 / 7)
    assert result.cagr == pytest.approx(1.2 ** (252 / 6) - 1)


def test_drawdown_is_a_positive_fraction_and_lasts_from_its_peak() -> None:
    depth, duration = drawdowns(np.array([100.0, 120, 90, 110, 119, 121, 100]), 100.0)
    assert depth == pytest.approx(0.25)
    assert duration == 3
    assert drawdowns(np.array([90.0, 80.0]), 100.0)[0] == pytest.approx(0.2)


def test_ratios_follow_their_definitions() -> None:
    closes = [10.0, 11, 10, 12, 11, 13, 12.5]
    result = m.compute_metrics(replay(closes, [1] * 7), 252.0)
    equity = np.array([1000.0, 1000, *(1000 * c / 11 for c in closes[2:])])
    returns = equity[1:] / equity[:-1] - 1
    assert result.volatility_annual == pytest.approx(returns.std(ddof=1) * math.sqrt(252))
    assert result.sharpe_ratio == pytest.approx(returns.mean() / returns.std(ddof=1) * math.sqrt(252))
    downside = math.sqrt((np.minimum(returns, 0) ** 2).mean())
    assert result.sortino_ratio == pytest.approx(returns.mean() / downside * math.sqrt(252))
    assert result.cagr is not None
    assert result.calmar_ratio == pytest.approx(result.cagr / result.max_drawdown)


def test_what_is_undefined_is_null() -> None:
    run = replay([10, 10, 10], [0, 0, 0])
    result = m.compute_metrics(run, 252.0)
    assert result.sharpe_ratio is result.sortino_ratio is result.win_rate is result.profit_factor is None
    assert result.deflated_sharpe_ratio is result.sharpe_ci is result.sqn is result.kelly is None
    assert any(warning.startswith("no_trades") for warning in find_warnings(run, result))


def test_few_trades_are_warned_of() -> None:
    run = replay([10, 10, 12, 12, 9, 9, 9], [1, 0, 0, 1, 0, 0, 0])
    warnings = find_warnings(run, m.compute_metrics(run, 252.0))
    assert any(warning.startswith("few_trades: 2 closed trades") for warning in warnings)


def test_periods_of_a_year() -> None:
    assert m.periods_per_year("1d", np.array([0])) == 252
    assert m.periods_per_year("1w", np.array([0])) == 52
    hours = np.array([day * DAY + hour * 3_600_000_000 for day in range(3) for hour in range(7)])
    assert m.periods_per_year("1h", hours) == 252 * 7


def test_symbols_share_the_cash_and_add_up_on_the_union_of_times() -> None:
    one, two = prices([10, 10, 20]), prices([5, 5, 5, 5])
    settings = Settings(cash=1000)  # pyright: ignore[reportArgumentType]  # pydantic reads the int
    replays = [replay_symbol("signals", np.ones(len(bars)), bars, settings, 500.0) for bars in (one, two)]
    both = Replay.combine(replays, 1000.0)
    assert both.equity.tolist() == [1000, 1000, 1500, 1500]
    assert trades_frame(both).height == 2
