"""The sheet: everything that a tear sheet shows of a completed run, as numbers; nothing is drawn here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from neural_trader_tools.backtest.comparison import hold_equity, read_equity
from neural_trader_tools.backtest.curve import read_curve
from neural_trader_tools.backtest.ledger import BacktestRecord
from neural_trader_tools.backtest.luck.sharpe import deflated_sharpe
from neural_trader_tools.backtest.metrics import periods_per_year
from neural_trader_tools.backtest.prices import Prices

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SYMBOLS_SHOWN: Final = 4
TRADES_SHOWN: Final = 20
ROLLING_MIN: Final = 20


@dataclass(frozen=True, slots=True, eq=False)
class Traded:
    """One symbol's prices and its trades on them.

    Attributes:
        symbol: Its name, a stranger's text.
        times: Of its bars, microseconds.
        close: At these times.
        trades: Rows of the run's trades, oldest first.
    """

    symbol: str
    times: Ints
    close: Floats
    trades: pl.DataFrame


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """A completed run as the tear sheet shows it.

    Attributes:
        record: The run.
        times: Of its bars, microseconds.
        equity: At each close.
        drawdown: Below the peak so far, 0 or negative fractions.
        hold: Equity of buying the same symbols at the first close, without costs; empty without prices.
        rolling: Sharpe ratio a year of the last `window` returns; NaN until there are as many.
        window: Bars.
        months: Return of each calendar month (UTC) by its year and month.
        years: Return of each calendar year.
        trades: One row a trade, as the run kept it.
        returns: Of the closed trades.
        traded: The symbols that were traded most.
        left_out: How many symbols are not among them.
        trials_now: Trials that saw some of the data up to now; more than in the record if some came later.
        deflated_now: Deflated Sharpe ratio with these.
    """

    record: BacktestRecord
    times: Ints
    equity: Floats
    drawdown: Floats
    hold: Floats
    rolling: Floats
    window: int
    months: dict[tuple[int, int], float]
    years: dict[int, float]
    trades: pl.DataFrame
    returns: Floats
    traded: Sequence[Traded]
    left_out: int
    trials_now: int
    deflated_now: float | None

    @classmethod
    def of(
        cls,
        record: BacktestRecord,
        equity_frame: pl.DataFrame,
        trades: pl.DataFrame,
        prices: Sequence[Prices],
        others: Sequence[float | None] = (),
    ) -> "Sheet":
        """Reads what a completed run kept.

        Args:
            record: Of the run.
            equity_frame: Its artifact `equity`.
            trades: Its artifact `trades`.
            prices: Of its symbols, in its order; empty where they are gone.
            others: Sharpe ratio per bar of every other trial that saw some of its data up to now.
        """
        times, equity = read_equity(equity_frame)
        cash = float(record.request.settings.cash)
        periods = periods_per_year(record.request.interval, times)
        window = max(ROLLING_MIN, round(periods / 2))
        moments = read_curve(equity, cash).moments
        sharpes = [*others, None if moments is None else moments.sharpe]
        months, years = calendar(times, equity, cash)
        counts = {row[0]: row[1] for row in trades["symbol"].value_counts().rows()}
        ranked = sorted(prices, key=lambda one: (-counts.get(one.symbol, 0), one.symbol))
        return cls(
            record=record,
            times=times,
            equity=equity,
            drawdown=equity / np.maximum.accumulate(np.maximum(equity, cash)) - 1.0,
            hold=hold_equity(prices, times) * cash if prices else np.empty(0),
            rolling=rolling_sharpe(equity, window, periods),
            window=window,
            months=months,
            years=years,
            trades=trades,
            returns=trades.filter(pl.col("exit_time").is_not_null())["return"].to_numpy(),
            traded=[
                Traded(one.symbol, one.times, one.close, trades.filter(pl.col("symbol") == one.symbol))
                for one in ranked[:SYMBOLS_SHOWN]
            ],
            left_out=max(len(prices) - SYMBOLS_SHOWN, 0),
            trials_now=len(sharpes),
            deflated_now=None if moments is None else deflated_sharpe(moments, sharpes),
        )

    @property
    def top_trades(self) -> pl.DataFrame:
        """The trades that moved the result most, the largest first; equal ones oldest first."""
        size = self.trades.with_columns(size=pl.col("pnl").abs())
        ordered = size.sort("size", "entry_time", "symbol", descending=[True, False, False])
        return ordered.drop("size").head(TRADES_SHOWN)


def calendar(
    times: Ints, equity: Floats, cash: float
) -> tuple[dict[tuple[int, int], float], dict[int, float]]:
    """Returns the return of each calendar month and year (UTC); each begins where the one before ended.

    Args:
        times: Of the bars, microseconds, ascending.
        equity: At each close.
        cash: At the start.
    """
    month = times.view("datetime64[us]").astype("datetime64[M]").astype(np.int64)
    last = np.append(np.flatnonzero(np.diff(month)), len(month) - 1)
    months: dict[tuple[int, int], float] = {}
    years: dict[int, float] = {}
    before = cash
    for row in last:
        year, number = 1970 + int(month[row]) // 12, int(month[row]) % 12 + 1
        after = float(equity[row])
        growth = after / before if before > 0.0 else math.nan
        months[year, number] = growth - 1.0
        years[year] = (1.0 + years.get(year, 0.0)) * growth - 1.0
        before = after
    return months, years


def rolling_sharpe(equity: Floats, window: int, periods: float) -> Floats:
    """Returns the Sharpe ratio a year of the `window` returns up to each bar; NaN where undefined."""
    found = np.full(len(equity), np.nan)
    if len(equity) <= window or float(equity.min()) <= 0.0:
        return found
    returns = equity[1:] / equity[:-1] - 1.0
    centre = float(returns.mean())  # sums of squares about the mean: no digits cancel
    off = returns - centre
    sums = np.concatenate([[0.0], np.cumsum(off)])
    squares = np.concatenate([[0.0], np.cumsum(off * off)])
    total = sums[window:] - sums[:-window]
    spread = np.maximum(squares[window:] - squares[:-window] - total * total / window, 0.0)
    deviation = np.sqrt(spread / (window - 1))
    risky = deviation > 1e-9
    mean = centre + total / window
    found[window:] = np.where(risky, mean / np.where(risky, deviation, 1.0), np.nan) * math.sqrt(periods)
    return found
