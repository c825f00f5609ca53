# line: 6
import polars as pl


def signals(bars):
    middle = bars["close"].rolling_mean(21, center=True)
    return (bars["close"] > middle).cast(pl.Float64)
