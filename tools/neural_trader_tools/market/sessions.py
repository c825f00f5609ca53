"""Trading sessions: when a day's bar opens, and when it could first be known.

A source that gives only dates says nothing about instants. The rule here, recorded with every import as
"known_time assumed":

- On a calendar such as XNYS, a session's bar opens at the session's open and is known at its close
  (half days included), as `exchange_calendars` gives them.
- A date without a session, and every date on the calendar `24/7`, opens at 00:00 UTC and is known at the
  next 00:00 UTC.

`exchange_calendars` takes seconds to import (it brings pandas), so only an import pays for it.
"""

import warnings
from datetime import UTC, date, datetime, time
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from neural_trader_governance.errors import InputError
from neural_trader_tools.market.frames import UTC_MICROSECONDS

CONTINUOUS = "24/7"
NEW_YORK = "XNYS"
CALENDAR_YEARS = (1900, 2100)
"""Dates beyond these years are no session of any calendar; most are typing errors."""


def session_times(dates: pl.Series, calendar: str = NEW_YORK) -> pl.DataFrame:
    """Returns for each date when its bar opens and when it is known, by the module's rule.

    Args:
        dates: Dates, in any order, repeats allowed.
        calendar: An ISO 10383 MIC that `exchange_calendars` knows, or `24/7`.

    Returns:
        One row per date, in the same order: `event_time`, `known_time`, `is_session` (always true on
        `24/7`).

    Raises:
        InputError: unknown calendar.
    """
    midnight = dates.cast(pl.Date).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    days = pl.DataFrame({"date": dates.cast(pl.Date), "midnight": midnight})
    by_rule = [
        pl.col("midnight").alias("event_time"),
        (pl.col("midnight") + pl.duration(days=1)).alias("known_time"),
    ]
    years = days.get_column("date").dt.year()
    known = years.filter(years.is_between(*CALENDAR_YEARS))
    if calendar == CONTINUOUS:
        return days.select(*by_rule, pl.lit(True).alias("is_session"))
    if known.is_empty():
        return days.select(*by_rule, pl.lit(False).alias("is_session"))
    first, last = known.sort().item(0), known.sort().item(-1)
    sessions = _sessions(calendar, first, last)
    joined = days.join(sessions, on="date", how="left", maintain_order="left")
    return joined.select(
        pl.coalesce("open", by_rule[0]).alias("event_time"),
        pl.coalesce("close", by_rule[1]).alias("known_time"),
        pl.col("open").is_not_null().alias("is_session"),
    )


def start_of_day(day: date, zone: str = "America/New_York") -> datetime:
    """Returns the first instant of a date in a time zone, in UTC: when a corporate action takes effect."""
    return datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC)


@lru_cache(maxsize=16)
def _sessions(calendar: str, first_year: int, last_year: int) -> pl.DataFrame:
    """Returns `date, open, close` of every session of those years."""
    # Lazy: seconds to import. Typed by hand: the package ships no stubs.
    from exchange_calendars import get_calendar  # pyright: ignore[reportMissingTypeStubs]
    from exchange_calendars.errors import InvalidCalendarName  # pyright: ignore[reportMissingTypeStubs]

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it uses what pandas 4 will drop; nothing a user can act on
            exchange: Any = get_calendar(calendar, start=f"{first_year}-01-01", end=f"{last_year}-12-31")
    except InvalidCalendarName:
        raise InputError(
            "unknown_calendar",
            f"{calendar!r:.20} is no exchange calendar",
            "use a MIC such as XNYS or XLON, or 24/7",
        ) from None
    except ValueError as error:
        raise InputError(
            "dates_out_of_calendar",
            f"{first_year} to {last_year} goes beyond what calendar {calendar} knows ({error})",
            "check the dates, or use the calendar 24/7",
        ) from None
    return pl.DataFrame(
        {
            "date": pl.Series(np.asarray(exchange.sessions.values, dtype="datetime64[D]")),
            "open": pl.Series(np.asarray(exchange.opens_nanos) // 1000).cast(UTC_MICROSECONDS),
            "close": pl.Series(np.asarray(exchange.closes_nanos) // 1000).cast(UTC_MICROSECONDS),
        }
    )
