"""Trading hours of the exchange: sessions of a calendar, or round the clock."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from neural_trader_governance.errors import DataError

DAY_NS = 86_400 * 10**9
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Session:
    """One trading session: open at `open_ns`, over at `close_ns`; `day` counts from 1970-01-01."""

    day: int
    open_ns: int
    close_ns: int

    @property
    def date(self) -> date:
        """Its date at the exchange."""
        return _EPOCH + timedelta(days=self.day)

    def holds(self, time_ns: int) -> bool:
        """Whether that instant lies within it; the close does not."""
        return self.open_ns <= time_ns < self.close_ns


class Hours:
    """Sessions in order, none touching another.

    Args:
        sessions: Of as many years as the exchange may live through.
    """

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._sessions = tuple(sessions)
        self._closes = [session.close_ns for session in self._sessions]
        self._by_day = {session.day: session for session in self._sessions}

    def current_or_next(self, time_ns: int) -> Session:
        """Returns the session that is on, or the next one.

        Raises:
            DataError: `calendar_ends`.
        """
        index = bisect_right(self._closes, time_ns)
        if index == len(self._sessions):
            raise DataError(
                "calendar_ends",
                f"the exchange's calendar ends before {_moment(time_ns)}",
                "start it with a calendar that reaches further",
            )
        return self._sessions[index]

    def at(self, time_ns: int) -> Session | None:
        """Returns the session that is on, or None."""
        session = self.current_or_next(time_ns)
        return session if session.holds(time_ns) else None

    def next_open(self, time_ns: int) -> Session:
        """Returns the first session that opens after that instant."""
        session = self.current_or_next(time_ns)
        return session if session.open_ns > time_ns else self.current_or_next(session.close_ns)

    def last_closed(self, time_ns: int) -> Session | None:
        """Returns the newest session that is over at that instant, or None."""
        index = bisect_right(self._closes, time_ns)
        return self._sessions[index - 1] if index else None

    def of_day(self, day: int) -> Session:
        """Returns the session of a day that is one, counted from 1970-01-01."""
        return self._by_day[day]

    def between(self, first: date, last: date) -> list[Session]:
        """Returns the sessions of those dates, both included."""
        return [session for session in self._sessions if first <= session.date <= last]


def exchange_hours(calendar: str, first: date, last: date) -> Hours:
    """Returns a calendar's sessions, or days from midnight to midnight UTC for `24/7`.

    Raises:
        InputError: unknown calendar.
    """
    # Lazy: the calendars take seconds to import.
    import polars as pl

    from neural_trader_tools.market.sessions import session_times

    days = pl.date_range(first, last, eager=True)
    times = session_times(days, calendar).with_columns(days.alias("date"))
    rows = times.filter(pl.col("is_session")).select("date", "event_time", "known_time").rows()
    return Hours([Session((day - _EPOCH).days, _ns(opening), _ns(close)) for day, opening, close in rows])


def round_the_clock(first: date, last: date) -> Hours:
    """Returns a session a day, from midnight to midnight UTC, without loading a calendar."""
    days = range((first - _EPOCH).days, (last - _EPOCH).days + 1)
    return Hours([Session(day, day * DAY_NS, (day + 1) * DAY_NS) for day in days])


def _ns(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def _moment(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // 10**9, UTC).isoformat()
