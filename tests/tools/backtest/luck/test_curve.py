"""The curve, read in one pass, against numpy's definitions."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_trader_tools.backtest.curve import read_curve
from neural_trader_tools.backtest.luck.sharpe import Moments
from neural_trader_tools.backtest.metrics import bar_returns, days_of


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    bars=st.integers(3, 300),
    drift=st.floats(-0.3, 0.3),
    risk=st.floats(1e-6, 0.3),
)
def test_one_pass_equals_numpy(seed: int, bars: int, drift: float, risk: float) -> None:
    steps = np.exp(np.random.default_rng(seed).normal(drift, risk, bars))
    equity = np.asarray(1000.0 * np.cumprod(steps), dtype=np.float64)
    found = read_curve(equity, 1000.0)
    returns = bar_returns(equity)
    expected = Moments.of(returns)
    assert found.returns == len(returns)
    assert found.mean == pytest.approx(returns.mean(), rel=1e-9, abs=1e-15)
    assert found.downside == pytest.approx(math.sqrt((np.minimum(returns, 0) ** 2).mean()), rel=1e-9)
    assert expected is not None
    assert found.moments is not None
    assert found.moments == pytest.approx(expected, rel=1e-6, abs=1e-7)
    peak = np.maximum.accumulate(np.maximum(equity, 1000.0))
    assert found.drawdown == pytest.approx((1 - equity / peak).max(), abs=1e-12)
    middle = len(returns) // 2
    for half, part in ((found.first, returns[:middle]), (found.second, returns[middle:])):
        other = Moments.of(part)
        assert (half is None) == (other is None)
        if half is not None and other is not None:
            assert half.sharpe == pytest.approx(other.sharpe, rel=1e-6)


def test_a_constant_growth_has_no_risk_and_its_rounding_is_none() -> None:
    found = read_curve(np.asarray(1e5 * 1.001 ** np.arange(2000), dtype=np.float64), 1e5)
    assert (found.deviation, found.moments, found.drawdown) == (None, None, 0.0)
    assert found.mean == pytest.approx(0.001, rel=1e-12)


def test_returns_end_with_the_money_and_one_bar_has_none() -> None:
    found = read_curve(np.array([100.0, 50.0, 0.0, 0.0, 0.0]), 100.0)
    assert (found.returns, found.mean, found.drawdown, found.drawdown_bars) == (2, -0.75, 1.0, 4)
    below = read_curve(np.array([100.0, 50.0, -20.0, -20.0]), 100.0)
    assert below.returns == 2
    assert below.drawdown == pytest.approx(1.2)
    alone = read_curve(np.array([100.0]), 100.0)
    assert (alone.returns, alone.moments, alone.drawdown) == (0, None, 0.0)


def test_days_are_counted_without_looking_at_every_bar() -> None:
    random = np.random.default_rng(3)
    times = np.sort(random.choice(40 * 24 * 60, 500, replace=False)) * 60_000_000 - 10 * 86_400_000_000
    assert days_of(times) == len(np.unique(times // 86_400_000_000))


def test_a_million_bars_are_read_in_milliseconds() -> None:
    equity = 1e5 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 1e-3, 1_000_000)))
    read_curve(equity[:10], 1e5)
    spent: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        read_curve(equity, 1e5)
        spent.append(time.perf_counter() - began)
    assert min(spent) < 0.05  # 3 ms on a quiet machine; benchmarks/ hold the figure
