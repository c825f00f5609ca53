# line: 6
import polars as pl


def signals(bars):
    ended = bars.select(pl.col("close").last().over(pl.col("time").dt.truncate("1mo")))["close"]
    return (ended > bars["close"]).cast(pl.Float64)
