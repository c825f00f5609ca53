"""The engine beside a second formulation on real prices: growth factors in one expression, no orders."""

import itertools
import math
import statistics
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from neural_trader_tools.backtest.metrics import compute_metrics
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.replay import Replay, SymbolReplay, replay_symbol
from neural_trader_tools.backtest.settings import read_settings

COMMISSION, SLIPPAGE, CASH = 0.0007, 0.0003, 50_000.0


def growth(frame: pl.DataFrame) -> pl.DataFrame:
    """Long where SMA 20 > SMA 50, decided at a close, carried out at the next open."""
    close, open_ = pl.col("close"), pl.col("open")
    wanted = (close.rolling_mean(20) > close.rolling_mean(50)).fill_null(value=False)
    held = wanted.shift(1, fill_value=False)
    before = held.shift(1, fill_value=False)
    paid, got = open_ * (1 + SLIPPAGE) * (1 + COMMISSION), open_ * (1 - SLIPPAGE) * (1 - COMMISSION)
    factor = (
        pl.when(held & before)
        .then(close / close.shift(1))
        .when(held)
        .then(close / paid)
        .when(before)
        .then(got / close.shift(1))
        .otherwise(1.0)
    )
    return frame.with_columns(wanted=wanted, held=held, factor=factor)


def played(symbol: str, frame: pl.DataFrame, cash: float) -> SymbolReplay:
    settings = read_settings(cash=100_000, commission_bps=7, slippage_bps=3)
    targets = growth(frame)["wanted"].cast(pl.Float64).to_numpy().copy()
    return replay_symbol("signals", targets, Prices.from_frame(symbol, frame), settings, cash)


def test_apples_equity_trades_and_metrics_equal_the_growth_factors(
    daily: Callable[[str], pl.DataFrame],
) -> None:
    frame = daily("AAPL")
    replay = played("AAPL", frame, CASH)
    table = growth(frame)
    equity = CASH * table["factor"].cum_prod().to_numpy()
    assert len(replay.trades) >= 30
    assert np.allclose(replay.equity, equity, rtol=1e-10)

    # each trade by itself: what the seller got per unit over what the buyer paid
    opens, held = table["open"].to_list(), [*table["held"].to_list(), False]
    changes = [i for i, now in enumerate(held[:-1]) if now != (i > 0 and held[i - 1])]
    pairs = list(zip(changes[::2], changes[1::2], strict=False))
    returns = [
        opens[j] * (1 - SLIPPAGE) * (1 - COMMISSION) / (opens[i] * (1 + SLIPPAGE)) - (1 + COMMISSION)
        for i, j in pairs
    ]
    metrics = compute_metrics(Replay.combine([replay], CASH), 252.0)
    assert metrics.trade_count == len(pairs)
    assert metrics.expectancy == pytest.approx(statistics.fmean(returns), rel=1e-9)
    assert metrics.win_rate == pytest.approx(sum(r > 0 for r in returns) / len(returns))
    assert metrics.exposure_time == pytest.approx(sum(held) / frame.height)

    steps = [b / a - 1 for a, b in itertools.pairwise(equity)]
    mean, deviation = statistics.fmean(steps), statistics.stdev(steps)
    downside = math.sqrt(statistics.fmean([min(s, 0.0) ** 2 for s in steps]))
    assert metrics.sharpe_ratio == pytest.approx(mean / deviation * math.sqrt(252))
    assert metrics.sortino_ratio == pytest.approx(mean / downside * math.sqrt(252))
    assert metrics.volatility_annual == pytest.approx(deviation * math.sqrt(252))
    assert metrics.cagr == pytest.approx((equity[-1] / CASH) ** (252 / len(steps)) - 1)
    peak, deepest, longest, since = CASH, 0.0, 0, 0
    for value in equity:
        since = since + 1 if value < peak else 0
        peak = max(peak, value)
        deepest, longest = max(deepest, 1 - value / peak), max(longest, since)
    assert metrics.max_drawdown == pytest.approx(deepest)
    assert metrics.max_drawdown_duration == longest
    assert metrics.calmar_ratio == pytest.approx((metrics.cagr or 0.0) / deepest)
    z = statistics.NormalDist().inv_cdf(0.975)
    assert metrics.sharpe_ci is not None
    sr = mean / deviation
    width = statistics.pstdev(steps)
    m3, m4 = (statistics.fmean([((s - mean) / width) ** k for s in steps]) for k in (3, 4))
    error = math.sqrt((1 - m3 * sr + (m4 - 1) / 4 * sr**2) / (len(steps) - 1))
    assert metrics.sharpe_ci == pytest.approx(
        [(sr - z * error) * math.sqrt(252), (sr + z * error) * math.sqrt(252)]
    )
    assert metrics.probabilistic_sharpe_ratio == pytest.approx(statistics.NormalDist().cdf(sr / error))


def test_symbols_with_different_histories_share_the_cash(daily: Callable[[str], pl.DataFrame]) -> None:
    frames = {"AAPL": daily("AAPL"), "FB": daily("FB"), "GOOG": daily("GOOG").head(1500)}
    share = CASH / 3
    replay = Replay.combine([played(symbol, frame, share) for symbol, frame in frames.items()], CASH)
    times = pl.concat([frame.select("event_time") for frame in frames.values()]).unique().sort("event_time")
    total = np.zeros(times.height)
    for frame in frames.values():
        table = growth(frame).select("event_time", (share * pl.col("factor").cum_prod()).alias("equity"))
        total += (
            times.join(table, on="event_time", how="left")["equity"]
            .fill_null(strategy="forward")
            .fill_null(share)
            .to_numpy()
        )
    assert np.allclose(replay.equity, total, rtol=1e-10)
