"""Histories: the bars of one symbol as they were known at a moment, and where they do not join."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from neural_trader_governance.errors import DataError, InputError
from neural_trader_governance.terms.market import interval_duration
from neural_trader_tools.market.adjustment import Adjust
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.patterns.shape import Floats

CLOSED_MAX = timedelta(days=10)
"""No exchange of the archive was ever shut for longer; a longer step between bars is a hole in the data."""
BARS_MAX = 50_000_000
"""Over all symbols: what a machine of 8 GB holds."""
STEPS_MAX = 5
"""What never closes, and weeks, may miss so many bars before it is a hole."""


@dataclass(frozen=True, slots=True)
class History:
    """Bars of one symbol, ascending.

    Attributes:
        symbol: As it was asked for.
        bars: `event_time, known_time, open, high, low, close, volume`.
        close: float64.
        joins: True where a bar follows the one before without a hole, and both have a close above 0.
    """

    symbol: str
    bars: pl.DataFrame
    close: Floats
    joins: NDArray[np.bool_]

    @property
    def opened_us(self) -> NDArray[np.int64]:
        """When each bar opened, in microseconds since 1970."""
        return self.bars.get_column("event_time").dt.epoch("us").to_numpy()

    @property
    def holes(self) -> int:
        """How many steps are none."""
        return int(np.count_nonzero(~self.joins[1:]))


def known_history(
    archive: Archive,
    symbol: str,
    interval: str,
    as_of: datetime | None,
    *,
    adjust: Adjust = "total",
    closes: bool = True,
) -> History:
    """Reads a symbol's bars as of a moment.

    Args:
        archive: Where they are.
        symbol: Whose.
        interval: Of the bars.
        as_of: Bars, corrections, splits and dividends known later are unseen; None sees everything.
        adjust: As for `Archive.bars`.
        closes: Whether its market has nights and weekends.

    Raises:
        DataError: unknown symbol, or it has no such bars.
    """
    bars = archive.bars(symbol, interval, as_of=as_of, adjust=adjust)
    if (
        as_of is not None
    ):  # a source's own `known_time` is believed by the archive; here both must have passed
        bars = bars.filter((pl.col("known_time") <= as_of) & (pl.col("event_time") <= as_of))
    longest = STEPS_MAX * interval_duration(interval)
    return history(symbol, bars, max(longest, CLOSED_MAX) if closes else longest)


def known_histories(
    archive: Archive,
    symbols: Sequence[str],
    interval: str,
    as_of: datetime | None,
    told: Callable[[float], None],
) -> list[History]:
    """Reads the bars of several symbols as of a moment.

    Args:
        archive: Where they are.
        symbols: Whose. The first must have such bars; others are passed over where they have none, or the
            same ones as an earlier symbol: after a symbol change the old and the new one read one series.
        interval: Of the bars.
        as_of: As for `known_history`.
        told: Hears how far the work is, 0 to 1.

    Raises:
        DataError: an unknown symbol, or the first has no such bars.
        InputError: `too_many_bars`.
    """
    classes = {one.symbol: one.asset_class for one in archive.instruments()}
    found: dict[bytes, History] = {}
    total = 0
    for number, symbol in enumerate(symbols):
        told(number / len(symbols))
        try:
            one = known_history(archive, symbol, interval, as_of, closes=classes.get(symbol) != "crypto")
        except DataError as error:
            if number == 0 or error.code != "no_bars":
                raise
            continue
        if number == 0 or one.close.size:
            content = hashlib.sha256(one.close.tobytes() + one.opened_us.tobytes()).digest()
            total += one.close.size if content not in found else 0
            found.setdefault(content, one)
        if total > BARS_MAX:
            raise InputError(
                "too_many_bars",
                f"{len(symbols)} symbols have more than {BARS_MAX:,} {interval} bars",
                "search fewer symbols, or a longer interval",
            )
    return list(found.values())


def history(symbol: str, bars: pl.DataFrame, step_max: timedelta = CLOSED_MAX) -> History:
    """Returns a history of bars that are all known.

    Args:
        symbol: Whose they are.
        bars: Ascending by event_time.
        step_max: A longer step between two opens is a hole.
    """
    close = bars.get_column("close").cast(pl.Float64).fill_null(np.nan).to_numpy()
    opened = bars.get_column("event_time").dt.epoch("us").to_numpy()
    usable = np.isfinite(close) & (close > 0)
    joins = np.zeros(close.size, dtype=np.bool_)
    joins[1:] = usable[1:] & usable[:-1] & (np.diff(opened) <= step_max // timedelta(microseconds=1))
    return History(symbol, bars, close, joins)
