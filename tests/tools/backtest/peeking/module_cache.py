import math

import polars as pl


def signals(bars):
    math.closes = bars["close"].to_list()
    return pl.Series([float(max(math.closes[bar:]) > 1.1 * math.closes[bar]) for bar in range(bars.height)])
