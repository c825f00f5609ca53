# Every bar of a month knows the close with which the month will end.
# line: 7
import polars as pl


def signals(bars):
    months = bars.group_by_dynamic("time", every="1mo").agg(pl.col("close").last().alias("ended"))
    known = bars.join_asof(months, on="time")
    return (known["ended"] > known["close"]).cast(pl.Float64)
