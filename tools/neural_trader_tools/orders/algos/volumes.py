"""Volumes: what the market traded, and when in the day it usually does, for the plans that follow it."""

from datetime import datetime, timedelta
from decimal import Decimal

import polars as pl

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.market import interval_duration
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.orders.accounting.settlement import ZONE
from neural_trader_tools.orders.algos.plan import profile_weights

PROFILE_SESSIONS = 20
_REACH = timedelta(days=40)
"""In which 20 sessions lie."""


def traded_between(archive: Archive, symbol: str, since: datetime, until: datetime) -> Decimal:
    """Returns what the market traded in the finest bars that became known in (since, until]."""
    interval = _finest(archive, symbol)
    bars = archive.bars(symbol, interval, start=since - timedelta(days=7), as_of=until, adjust="none")
    fresh = bars.filter((pl.col("known_time") > since) & (pl.col("known_time") <= until))
    return Decimal(repr(float(fresh.get_column("volume").fill_nan(0).fill_null(0).sum())))


def day_profile(
    archive: Archive, symbol: str, *, start: datetime, end: datetime, slices: int, as_of: datetime
) -> tuple[int, ...]:
    """Returns the weights of a day's slices by the volume of the last 20 sessions at those times of day.

    Args:
        archive: Whose finest intraday bars are taken, as known at `as_of`.
        symbol: Of the leg.
        start: Beginning of the first slice.
        end: End of the last; on the same date in New York.
        slices: How many of equal length.
        as_of: The desk's clock: no later volume is known.

    Raises:
        InputError: `no_profile`, there are no intraday bars at those times, or start and end are on two days.
    """
    local_start, local_end = start.astimezone(ZONE), end.astimezone(ZONE)
    interval = _finest(archive, symbol)
    if local_start.date() != local_end.date():
        raise _no_profile(symbol, "the plan lies on more than one day")
    if interval_duration(interval) >= timedelta(days=1):
        raise _no_profile(symbol, f"the archive has only {interval} bars of it")
    midnight = local_start.replace(hour=0, minute=0, second=0, microsecond=0)
    first, last = ((moment - midnight).total_seconds() for moment in (local_start, local_end))
    bars = archive.bars(symbol, interval, start=as_of - _REACH, as_of=as_of)
    local = bars.select(
        pl.col("event_time").dt.convert_time_zone(str(ZONE)).alias("local"),
        pl.col("volume").fill_nan(0).fill_null(0),
    ).filter(pl.col("local").dt.date() < local_start.date())
    days = local.get_column("local").dt.date().unique().sort().tail(PROFILE_SESSIONS)
    recent = local.filter(pl.col("local").dt.date().is_in(days.to_list()))
    seconds = recent.select(
        pl.col("local").dt.hour().cast(pl.Int64) * 3600
        + pl.col("local").dt.minute().cast(pl.Int64) * 60
        + pl.col("local").dt.second(),
        pl.col("volume"),
    )
    volumes = [(int(second), Decimal(repr(float(volume)))) for second, volume in seconds.iter_rows()]
    length = (last - first) / slices
    edges = [
        (round(first + length * number), round(first + length * (number + 1))) for number in range(slices)
    ]
    weights = profile_weights(volumes, edges)
    if not any(weights):
        raise _no_profile(symbol, "no bar of the last sessions lies in those hours")
    return weights


def _finest(archive: Archive, symbol: str) -> str:
    intervals = archive.instrument(symbol).intervals
    if not intervals:
        raise InputError(
            "no_bars", f"the archive has no bars of {symbol}", "import some: neural-trader data import"
        )
    return min(intervals, key=interval_duration)


def _no_profile(symbol: str, why: str) -> InputError:
    return InputError(
        "no_profile", f"there is no profile of the day's volume of {symbol}: {why}", "use twap, or pov"
    )
