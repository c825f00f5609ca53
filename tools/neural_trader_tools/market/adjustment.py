"""Price adjustment for splits and dividends, applied when bars are read, never when stored.

Prices are adjusted backwards: the newest bar keeps its raw price, older ones are brought to its basis.

- `splits`: a bar before a split of ratio r has its prices divided by r and its volume multiplied by r.
- `total`: as `splits`, and a bar before a dividend d has its prices multiplied by c / (c + d), where c
  is the raw close of the first bar on or after the ex-date. The return over the ex-date is then
  (c + d) / previous close, the total return of a holder (CRSP's definition). A dividend whose ex-date
  has no bar yet changes nothing.

Only the actions handed in count; the archive hands in those known at `as_of`.
"""

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from neural_trader_tools.market.frames import PRICE_COLUMNS

Adjust = Literal["none", "splits", "total"]


def split_factors(event_times: pl.Series, actions: pl.DataFrame) -> NDArray[np.float64]:
    """Returns per bar how many of today's shares one share was: the product of the later splits.

    Args:
        event_times: Bars' event times, ascending.
        actions: Actions in force; others than splits are ignored.

    Returns:
        float64, one per bar; raw price / factor is the adjusted price.
    """
    splits = actions.filter(pl.col("kind") == "split").sort("event_time")
    ratios = splits.get_column("value").to_numpy()
    return _product_after(event_times, splits.get_column("event_time"), ratios)


def dividend_factors(
    event_times: pl.Series, closes: NDArray[np.float64], actions: pl.DataFrame
) -> NDArray[np.float64]:
    """Returns per bar the product of c / (c + d) over the later dividends.

    Args:
        event_times: Bars' event times, ascending; every bar known, not only a window of them.
        closes: Raw closes of the same bars.
        actions: Actions in force; others than dividends are ignored.
    """
    dividends = actions.filter(pl.col("kind") == "dividend").sort("event_time")
    cash = dividends.get_column("value").to_numpy()
    times = dividends.get_column("event_time")
    position = np.searchsorted(_micros(event_times), _micros(times), side="left")
    priced = position < closes.size
    close = closes[position[priced]]
    return _product_after(event_times, times.filter(pl.Series(priced)), close / (close + cash[priced]))


def dividends_paid(event_times: pl.Series, actions: pl.DataFrame) -> NDArray[np.float64]:
    """Returns per bar the cash that one of today's shares gets: on the first bar of an ex-date.

    Args:
        event_times: Bars' event times, ascending. A dividend whose ex-date is on the first bar or before it
            is left out, because whoever starts there did not hold over it; so is one that has no bar yet.
        actions: Actions in force; dividends are raw, and brought to the basis of the splits after them.
    """
    dividends = actions.filter(pl.col("kind") == "dividend").sort("event_time")
    times = dividends.get_column("event_time")
    position = np.searchsorted(_micros(event_times), _micros(times), side="left")
    cash = dividends.get_column("value").to_numpy() / split_factors(times, actions)
    paid = np.zeros(len(event_times))
    counts = (position > 0) & (position < len(event_times))
    np.add.at(paid, position[counts], cash[counts])
    return paid


def adjusted(bars: pl.DataFrame, actions: pl.DataFrame, adjust: Adjust) -> pl.DataFrame:
    """Returns the bars on the basis that `adjust` names.

    Args:
        bars: Raw bars, ascending, one row per event_time; for `total`, every bar known.
        actions: The actions known at the read's `as_of`.
        adjust: `none`, `splits` or `total`.
    """
    if adjust == "none" or actions.is_empty() or bars.is_empty():
        return bars
    event_times = bars.get_column("event_time")
    shares = split_factors(event_times, actions)
    price = 1.0 / shares
    if adjust == "total":
        price = price * dividend_factors(event_times, bars.get_column("close").to_numpy(), actions)
    factor = pl.Series("factor", price)
    return bars.with_columns(
        *((pl.col(name) * factor).alias(name) for name in PRICE_COLUMNS),
        (pl.col("volume") * pl.Series("shares", shares)).alias("volume"),
    )


def _product_after(
    event_times: pl.Series, action_times: pl.Series, values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns per bar the product of the values of the actions that come after its event_time."""
    suffix = np.ones(values.size + 1)
    suffix[:-1] = np.cumprod(values[::-1])[::-1]
    passed = np.searchsorted(_micros(action_times), _micros(event_times), side="right")
    return suffix[passed]


def _micros(times: pl.Series) -> NDArray[np.int64]:
    return times.to_physical().to_numpy()
