# line: 7
import polars as pl


def signals(bars):
    close = bars["close"]
    score = (close - close.mean()) / close.std()
    return (score > 0).cast(pl.Float64)
