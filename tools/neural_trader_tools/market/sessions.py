"""Trading sessions: when a day's bar opens, and when it could first be known.

A source that gives only dates says nothing about instants. The rule here, recorded with every import as
"known_time assumed":

- On a calendar such as XNYS, a session's bar opens at the session's open and is known at its close
  (half days included), as `exchange_calendars` gives them.
- A date without a session, and every date on the calendar `24/7`, opens at 00:00 UTC and is known at the
  next 00:00 UTC.

`exchange_calendars` takes a second to import (it brings pandas). `SessionBook` keeps what it computed in
the archive's folder, so that reads that need sessions wait for it once, not once a process.
"""

import threading
import warnings
from contextlib import suppress
from datetime import UTC, date, datetime, time
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from neural_trader_governance.errors import InputError, StorageError
from neural_trader_tools.market.durable import write_durably
from neural_trader_tools.market.frames import UTC_MICROSECONDS

CONTINUOUS = "24/7"
NEW_YORK = "XNYS"
WEEKEND_SHARE_MAX = 0.05
"""Above this share of weekend dates, bars are taken to be made around the clock."""
CALENDAR_YEARS = (1900, 2100)
"""Dates beyond these years are no session of any calendar; most are typing errors."""


PRECOMPUTED_YEARS = (1990, 2030)
"""What a book computes at once; it grows where dates outside these years are asked for."""


class SessionBook:
    """The sessions of exchange calendars, computed once and kept in a folder; safe to share between threads.

    Args:
        folder: Where computed sessions are kept; created when needed. One that cannot be written is no
            error: they are computed again by the next process.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, tuple[int, int, pl.DataFrame]] = {}
        self._lock = threading.Lock()
        self.chosen: dict[str, str] = {}
        """By a series' digest: the calendar that its bars are cut by."""

    @property
    def edition(self) -> str:
        """Which sessions these are: the version of `exchange_calendars`."""
        return version("exchange-calendars")

    def sessions(self, calendar: str, first: date, last: date) -> pl.DataFrame:
        """Returns the sessions from one date to another, both inclusive, ascending.

        Args:
            calendar: A MIC that `exchange_calendars` knows; not `24/7`, which has none.
            first: Dates beyond what the calendar knows have no session.
            last: The same.

        Returns:
            `date` (the session's own, in its zone), `open`, `close` (UTC; the close of a half day is early).

        Raises:
            InputError: unknown calendar.
        """
        low, high = (min(max(day.year, CALENDAR_YEARS[0]), CALENDAR_YEARS[1]) for day in (first, last))
        with self._lock:
            held = self._held.get(calendar)
            if held is None or low < held[0] or high > held[1]:
                years = (min(low, PRECOMPUTED_YEARS[0]), max(high, PRECOMPUTED_YEARS[1]))
                held = self._held[calendar] = (*years, self._read(calendar, *years))
        return held[2].filter(pl.col("date").is_between(first, last))

    def _read(self, calendar: str, first_year: int, last_year: int) -> pl.DataFrame:
        path = self._folder / f"{quote(calendar, safe='')}.{first_year}-{last_year}.{self.edition}.arrow"
        try:
            return pl.read_ipc(path)
        except (OSError, pl.exceptions.PolarsError):  # not there, or torn: computed below
            computed = _sessions(calendar, *_within_bounds(calendar, first_year, last_year))
        with suppress(StorageError):  # a cache that cannot be kept is computed again
            write_durably(path, lambda out: computed.write_ipc(out))
        return computed


def calendar_of(asset_class: str, venue: str, event_times: pl.Series) -> str:
    """Returns the calendar by which an instrument's bars are cut: a MIC, or `24/7`.

    Crypto trades around the clock. So does, as with daily imports, whatever has more than 5 % of its bars on
    weekends (New York dates) and no venue that is a calendar. Otherwise it is the venue's, or XNYS.
    """
    if asset_class == "crypto":
        return CONTINUOUS
    if _is_calendar(venue):
        return venue
    local = event_times.dt.convert_time_zone("America/New_York")
    weekends = local.dt.weekday().is_in([6, 7]).sum() / max(len(local), 1)
    return CONTINUOUS if weekends > WEEKEND_SHARE_MAX else NEW_YORK


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


@lru_cache(maxsize=256)
def _is_calendar(name: str) -> bool:
    """Says whether a venue's name is an exchange calendar's; vendors' own words are not."""
    if not name or name == CONTINUOUS:
        return name == CONTINUOUS
    from exchange_calendars import get_calendar_names  # pyright: ignore[reportMissingTypeStubs]

    return name in get_calendar_names(include_aliases=True)


def _within_bounds(calendar: str, first_year: int, last_year: int) -> tuple[int, int]:
    """Narrows years to whole ones that the calendar knows; some start late or end soon."""
    from exchange_calendars import get_calendar  # pyright: ignore[reportMissingTypeStubs]
    from exchange_calendars.errors import InvalidCalendarName  # pyright: ignore[reportMissingTypeStubs]

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in `_sessions`
            exchange: Any = get_calendar(calendar)
    except InvalidCalendarName:
        return first_year, last_year  # `_sessions` says so
    low, high = exchange.bound_min(), exchange.bound_max()
    if low is not None:
        first_year = max(first_year, low.year + ((low.month, low.day) > (1, 1)))
    if high is not None:
        last_year = min(last_year, high.year - ((high.month, high.day) < (12, 31)))
    return first_year, last_year


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
