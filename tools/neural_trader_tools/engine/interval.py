"""Intervals: bars put together to longer ones, of which each bar knows those that were over.

A longer bar is known as soon as a bar after its end was seen, never while it is being made: on the bars of a
day, the daily bar before it is the last one. So the last bar of a day does not know its own day yet; that
needs a calendar, and a bar too late is no look-ahead.
"""

import re
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from neural_trader_tools.engine.faults import StrategyFault

_FORM: Final = re.compile(r"([1-9][0-9]{0,3})(m|h|d|w|mo)")
INTERVALS: Final = "such as 5m, 1h, 4h, 1d, 1w or 1mo"


def coarse_bars(bars: pl.DataFrame, interval: str) -> tuple[pl.DataFrame, NDArray[np.int64]]:
    """Puts bars together to longer ones; intervals begin at midnight UTC, weeks on Monday.

    Args:
        bars: time, open, high, low, close, volume of one symbol, sorted by time.
        interval: A count and a unit, such as `1d`.

    Returns:
        The longer bars, the last of which may be unfinished, and for each bar the number of the longer bar
        that it is a part of.

    Raises:
        StrategyFault: `invalid_feature`: there is no such interval. One as short as the bars is late by one.
    """
    if _FORM.fullmatch(interval) is None:
        raise StrategyFault("invalid_feature", f"{interval!r:.20} is no interval", f"give one {INTERVALS}")
    begin = bars["time"].dt.truncate(interval)
    longer = (
        bars.group_by(begin.alias("time"), maintain_order=True)
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum(),
        )
        .sort("time")
    )
    numbers = np.searchsorted(longer["time"].to_physical().to_numpy(), begin.to_physical().to_numpy())
    return longer, numbers.astype(np.int64)
