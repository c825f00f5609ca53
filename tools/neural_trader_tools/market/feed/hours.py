"""Session hours: when an exchange trades, worked out before a feed starts and asked with every tick."""

from bisect import bisect_right
from datetime import UTC, datetime, timedelta

import msgspec
import polars as pl

from neural_trader_tools.market.sessions import CONTINUOUS, session_times


class SessionHours(msgspec.Struct, frozen=True):
    """When an exchange trades: opens and closes in nanoseconds, ascending; empty means always."""

    opens_ns: tuple[int, ...] = ()
    closes_ns: tuple[int, ...] = ()

    def around(self, moment_ns: int) -> tuple[int, int] | None:
        """Returns open and close of the session that holds the moment, or None; the close is outside."""
        at = bisect_right(self.opens_ns, moment_ns) - 1
        if at < 0 or moment_ns >= self.closes_ns[at]:
            return None
        return self.opens_ns[at], self.closes_ns[at]


def session_hours(calendar: str, first: datetime, days: int) -> SessionHours:
    """Returns the sessions of so many days from a date on.

    Takes seconds for the first calendar of a process (`exchange_calendars` is slow to import): call it before
    the feed starts.

    Args:
        calendar: A MIC that `exchange_calendars` knows, or `24/7`.
        first: Any time of the first day.
        days: Days, from 1; beyond them no trade makes a bar.

    Raises:
        InputError: unknown calendar.
    """
    if calendar == CONTINUOUS:
        return SessionHours()
    start = first.astimezone(UTC).date()
    dates = pl.date_range(start, start + timedelta(days=days - 1), eager=True)
    sessions = session_times(dates, calendar).filter(pl.col("is_session"))
    opens, closes = (
        tuple(value * 1_000 for value in sessions.get_column(name).to_physical().to_list())
        for name in ("event_time", "known_time")
    )
    return SessionHours(opens, closes)
