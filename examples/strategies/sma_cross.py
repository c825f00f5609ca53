"""Long while the fast moving average is above the slow one, flat otherwise. The simplest trend follower."""

import polars as pl


def signals(bars: pl.DataFrame, fast: int = 20, slow: int = 50) -> pl.Series:
    close = bars["close"]
    above = close.rolling_mean(fast) > close.rolling_mean(slow)  # null until the slow average exists
    return above.cast(pl.Float64)
