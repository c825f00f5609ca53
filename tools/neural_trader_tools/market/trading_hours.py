"""Trading hours: does a symbol's venue trade at the time at which the desk's clock stands?

On the replay clock with daily bars the time of day means nothing, because the clock stands at closes;
so the question is about the day. A bar of the symbol on that very day answers it. Otherwise the
venue's calendar does (XNYS where the venue names none), and only then is `exchange_calendars` loaded.
Where there are bars shorter than a day, the time of day counts: from the session's open until its close,
that instant included, since there the clock has the closing bar.
"""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.market import interval_duration
from neural_trader_tools.market.archive import ListedInstrument
from neural_trader_tools.market.sessions import NEW_YORK, session_times

_ZONE = ZoneInfo("America/New_York")
_SATURDAY = 5
_DAY = timedelta(days=1)


def why_closed(instrument: ListedInstrument, *, now: datetime, last_made: datetime | None) -> str:
    """Returns why the instrument does not trade at the clock's time; empty where it does.

    Args:
        instrument: Its venue names the calendar; its intervals (those whose bars reach the clock's time) say
            whether the time of day counts.
        now: The desk's (replay) clock.
        last_made: When the newest price known was made; None where none is known.
    """
    day = now.astimezone(_ZONE).date()
    by_hour = any(interval_duration(each) < _DAY for each in instrument.intervals)
    listed = instrument.asset_class in {"equity", "etf", "index"}
    traded_today = last_made is not None and (
        last_made.date() == now.date() or last_made.astimezone(_ZONE).date() == day
    )
    if instrument.asset_class == "crypto" or (traded_today and not (by_hour and listed)):
        return ""
    if day.weekday() >= _SATURDAY:
        return f"{day} is a {day:%A}"
    if not listed:
        return ""
    days = pl.Series([day])
    try:
        found = session_times(days, instrument.venue or NEW_YORK)
        calendar = instrument.venue or NEW_YORK
    except InputError:  # the source's own word for the venue
        found, calendar = session_times(days, NEW_YORK), NEW_YORK
    if not found.item(0, "is_session"):
        return f"{calendar} has no session on {day}"
    opens, closes = found.item(0, "event_time"), found.item(0, "known_time")
    if by_hour and not opens <= now <= closes:
        return f"{calendar} trades from {opens:%H:%M} to {closes:%H:%M} UTC on {day}"
    return ""
