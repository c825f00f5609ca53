# line: 6
import polars as pl


def signals(bars):
    ahead = bars["close"].shift(-1)
    return (ahead > bars["close"]).cast(pl.Float64).fill_null(0.0)
