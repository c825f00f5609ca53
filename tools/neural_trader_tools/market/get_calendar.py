"""The tool `market_get_calendar`: when a venue trades, and what corporate actions were known."""

from datetime import date, datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

import anyio.to_thread
from pydantic import Field

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.clocks import UtcTime, format_time
from neural_trader_governance.terms.term import Term
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.market.sessions import CALENDAR_YEARS, CONTINUOUS, NEW_YORK, start_of_day
from neural_trader_tools.market.windows import read_window

DAYS_DEFAULT = 14
DAYS_MAX = 400
SYMBOLS_MAX = 20
ACTIONS_MAX = 100
NEW_YORK_ZONE = ZoneInfo("America/New_York")


class CorporateAction(Term):
    """A split, a dividend or a symbol change."""

    symbol: str
    event_time: UtcTime = Field(description="Start of its date")
    known_time: UtcTime
    kind: str = Field(description="split, dividend or rename")
    value: float | str = Field(description="Shares per share, cash, or new symbol")


class CalendarResult(Term):
    """Sessions and actions, by time, each as columns."""

    venue: str
    sessions: dict[str, list[str | bool]] = Field(description="date, open, close, half_day")
    actions: dict[str, list[str | float]] = Field(description="symbol, date, known_time, kind, value")
    note: str | None = None


async def market_get_calendar(
    archive: Archive,
    clock: ReplayClock,
    *,
    venue: Annotated[str, Field(description="MIC such as XNYS, or 24/7")] = NEW_YORK,
    start: Annotated[str | None, Field(description="First date; default the desk's")] = None,
    end: Annotated[str | None, Field(description="Exclusive; default 14 days on")] = None,
    symbols: Annotated[
        list[str] | None, Field(description="Whose splits, dividends and renames to add")
    ] = None,
) -> CalendarResult:
    """A venue's trading sessions, half days too, and corporate actions known at the desk's clock."""

    def read() -> CalendarResult:
        window = read_window(start, end, None, clock.horizon())
        first = (window.start or clock.now()).date()
        last = (window.end - timedelta(microseconds=1)).date() if window.end else _later(first)
        if last < first:
            raise InputError("invalid_range", f"end {end} is not after {first}", "give a later end")
        if (last - first).days >= DAYS_MAX or not CALENDAR_YEARS[0] <= first.year < CALENDAR_YEARS[1]:
            raise InputError(
                "invalid_range",
                f"{first} to {last} is longer than {DAYS_MAX} days, or not from 1900 to 2099",
                f"leave end out for the days after start, or give one at most {DAYS_MAX} days later",
            )
        names = list(dict.fromkeys(symbols or []))
        if len(names) > SYMBOLS_MAX:
            raise InputError(
                "invalid_symbols", f"{len(names)} symbols were given", f"give up to {SYMBOLS_MAX}"
            )
        low, high = start_of_day(first), start_of_day(last + timedelta(days=1))
        known = [one for name in names for one in corporate_actions(archive, name, clock.now())]
        found = [one for one in known if low <= one.event_time < high]
        sessions = trading_sessions(archive, venue, first, last)
        return CalendarResult(
            venue=venue,
            sessions=sessions,
            actions=_columns(found[:ACTIONS_MAX]),
            note=_note(len(found), not sessions["date"], venue),
        )

    return await anyio.to_thread.run_sync(read)


def trading_sessions(archive: Archive, venue: str, first: date, last: date) -> dict[str, list[str | bool]]:
    """Returns the sessions of the dates, both inclusive: `date, open, close, half_day`.

    A half day is a session shorter than the usual one of its venue's surrounding weeks.

    Raises:
        InputError: unknown calendar.
    """
    if venue == CONTINUOUS:
        days = [first + timedelta(days=at) for at in range((last - first).days + 1)]
        opens = [f"{day}T00:00:00Z" for day in days]
        closes = [f"{day + timedelta(days=1)}T00:00:00Z" for day in days]
        half = [False] * len(days)
    else:
        around = archive.sessions(venue, first - timedelta(days=45), last + timedelta(days=45))
        lengths = (around.get_column("close") - around.get_column("open")).to_list()
        usual = sorted(lengths)[len(lengths) // 2] if lengths else timedelta()
        rows = [row for row in around.iter_rows() if first <= row[0] <= last]
        days = [row[0] for row in rows]
        opens, closes = ([f"{row[at]:%Y-%m-%dT%H:%M:%SZ}" for row in rows] for at in (1, 2))
        half = [row[2] - row[1] < usual for row in rows]
    return {"date": [*map(str, days)], "open": [*opens], "close": [*closes], "half_day": [*half]}


def corporate_actions(archive: Archive, symbol: str, as_of: datetime | None) -> list[CorporateAction]:
    """Returns what was known at `as_of` of a symbol's actions, upcoming ones included, by date.

    Raises:
        DataError: unknown symbol.
    """
    rows = archive.actions(symbol, as_of, upcoming=True)
    found = [CorporateAction(symbol=symbol, **row) for row in rows.iter_rows(named=True)]
    found += [
        CorporateAction(
            symbol=one.old, event_time=one.event_time, known_time=one.known_time, kind="rename", value=one.new
        )
        for one in archive.renames(symbol, as_of, upcoming=True)
    ]
    return sorted(found, key=lambda one: (one.event_time, one.kind))


def _columns(found: list[CorporateAction]) -> dict[str, list[str | float]]:
    return {
        "symbol": [one.symbol for one in found],
        "date": [str(one.event_time.astimezone(NEW_YORK_ZONE).date()) for one in found],
        "known_time": [format_time(one.known_time) for one in found],
        "kind": [one.kind for one in found],
        "value": [one.value for one in found],
    }


def _later(first: date) -> date:
    return first + timedelta(days=DAYS_DEFAULT - 1)


def _note(found: int, is_empty: bool, venue: str) -> str | None:
    notes: list[str] = []
    if found > ACTIONS_MAX:
        notes.append(f"{found} actions match, the first {ACTIONS_MAX} are shown: narrow start and end")
    if is_empty:
        notes.append(f"{venue} has no session in that range")
    return "; ".join(notes) or None
