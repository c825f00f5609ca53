"""SMA 20/50 long/flat with commission: our event loop against a vectorised polars/numpy peer, same equity.

Both get the same target array and return the equity curve; the peer trades at the next open and keeps cash
and units by cumulative products, so it can do this one kind of strategy only.
"""

import numpy as np
import polars as pl
from results import Case, time_ms, write_results

from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.replay import replay_symbol
from neural_trader_tools.backtest.settings import Settings

CASH = 100_000.0
COMMISSION_BPS = 10.0


def walk(count: int) -> Prices:
    """A seeded random walk, for speed only: its results mean nothing."""
    generator = np.random.default_rng(7)
    close = 100.0 * np.exp(np.cumsum(generator.normal(0.0, 0.001, count)))
    open_ = np.concatenate([[100.0], close[:-1]]) * np.exp(generator.normal(0.0, 0.0002, count))
    high, low = np.maximum(open_, close) * 1.0005, np.minimum(open_, close) * 0.9995
    times = np.arange(count, dtype=np.int64) * 60_000_000
    return Prices("WALK", times, open_, high, low, close, np.ones(count))


def sma_targets(close: np.ndarray) -> np.ndarray:
    series = pl.Series(close)
    above = series.rolling_mean(20) > series.rolling_mean(50)
    return above.cast(pl.Float64).to_numpy()


def vectorised(prices: Prices, targets: np.ndarray) -> np.ndarray:
    """Equity of a long/flat target by array operations alone: bars held earn, entries and exits cost."""
    rate = COMMISSION_BPS / 10_000
    wanted = np.nan_to_num(targets, nan=0.0)
    held = np.concatenate([[0.0], wanted[:-1]]) > 0  # held during the bar, from its open
    before = np.concatenate([[False], held[:-1]])
    entry, exit_ = held & ~before, before & ~held
    previous = np.concatenate([[1.0], prices.close[:-1]])
    growth = np.ones(len(prices))
    growth = np.where(held & before, prices.close / previous, growth)
    growth = np.where(entry, prices.close / prices.open / (1 + rate), growth)
    growth = np.where(exit_, prices.open / previous * (1 - rate), growth)
    return CASH * np.cumprod(growth)


def main() -> None:
    settings = Settings(commission_bps=COMMISSION_BPS)
    cases: list[Case] = []
    for count in (100_000, 1_000_000):
        prices = walk(count)
        targets = sma_targets(prices.close)
        ours = replay_symbol("signals", targets, prices, settings, CASH)
        np.testing.assert_allclose(ours.equity, vectorised(prices, targets), rtol=1e-9)
        ours_ms = time_ms(lambda p=prices, t=targets: replay_symbol("signals", t, p, settings, CASH))
        peer_ms = time_ms(lambda p=prices, t=targets: vectorised(p, t))
        case = f"SMA 20/50, {count:,} bars: ours fills, trades and equity, the peer equity only"
        cases.append(Case(case, ours_ms, peer_ms, f"numpy {np.__version__}, vectorised", "ms"))
    write_results("backtest", cases)


if __name__ == "__main__":
    main()
