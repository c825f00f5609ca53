"""Pairs: two companies of one trade; sell the one that ran ahead, buy the one that lags, wait.

Idea: what both are exposed to cancels out, and what remains, the log of the ratio of their prices, returns to
its mean now and then. When it does not, the loss has no floor: nothing here caps it.
Source: Gatev, Goetzmann & Rouwenhorst, Pairs Trading, Review of Financial Studies 19:3 (2006).

Form: a portfolio, `weights(bars)`. Parameters: window (bars of mean and deviation), entry and exit
(deviations from the mean). Needs two symbols; of more, the first two are taken. It is short half of the time:
set borrow_bps_annual to what that costs you.

Out of sample (IBM, MSFT from 2009; window 120, entry 2 was the best of 9 before; 5 + 5 bps): Sharpe ratio
-0.03 after 0.72 in sample, -0.4% a year, drawdown 14.7%, deflated Sharpe ratio 0.14; holding the same: 0.82,
16.2%, 17.7%; docs/examples.md.
"""

import polars as pl


def weights(bars: pl.DataFrame, window: int = 60, entry: float = 2.0, exit: float = 0.5) -> pl.DataFrame:  # noqa: A002
    names = bars["symbol"].cast(pl.String).unique().sort()
    if len(names) < 2:
        return bars.select("time", "symbol", weight=pl.lit(0.0)).head(0)
    one, two = (bars.filter(pl.col("symbol") == name).select("time", "close") for name in names[:2])
    both = one.join(two, on="time", suffix="_two").sort("time")
    gap = (pl.col("close") / pl.col("close_two")).log()
    off = (gap - gap.rolling_mean(window)) / gap.rolling_std(window)
    side = pl.when(off > entry).then(-0.5).when(off < -entry).then(0.5).when(off.abs() < exit).then(0.0)
    sides = both.select("time", side=side.forward_fill().fill_null(0.0))
    turns = sides.filter(pl.col("side") != pl.col("side").shift(1).fill_null(0.0))
    return turns.select("time", pl.col("side").alias(names[0]), (-pl.col("side")).alias(names[1]))
