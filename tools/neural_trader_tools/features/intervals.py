"""Features of longer bars for functions: what `self.feature(..., interval="1d")` is for classes."""

import numpy as np
import polars as pl

from neural_trader_tools.engine.faults import StrategyFault
from neural_trader_tools.engine.feature import feature_values
from neural_trader_tools.features.catalogue import evaluate


def on_interval(bars: pl.DataFrame, expression: str, interval: str) -> pl.Series:
    """Returns a feature of longer bars, one value for each bar: that of the last longer bar that was over.

    Args:
        bars: time, open, high, low, close, volume, sorted by time; with a column `symbol`, which may come in
            any order among bars of one time, each symbol is taken by itself.
        expression: Such as `sma(20)`, or `close`.
        interval: Of the longer bars: a count and m, h, d, w or mo, such as `1d`; not shorter than the bars.

    Returns:
        Float64, NaN before the first longer bar is over.

    Raises:
        ValueError: a mistake in the expression or the interval.
    """
    names = bars["symbol"].cast(pl.String).to_numpy() if "symbol" in bars.columns else np.zeros(bars.height)
    values = np.full(bars.height, np.nan)
    for name in dict.fromkeys(names.tolist()):
        rows = np.flatnonzero(names == name)
        try:
            values[rows] = feature_values(evaluate, expression, bars[rows], interval)
        except StrategyFault as error:
            raise ValueError(str(error)) from error
    return pl.Series(values)
