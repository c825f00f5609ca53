# line: 6
import polars as pl


def signals(bars):
    return (bars["close"] < bars["close"][-1]).cast(pl.Float64)
