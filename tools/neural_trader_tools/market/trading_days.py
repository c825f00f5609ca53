"""Trading days: does a symbol's venue have a session on the day at which the desk's clock stands?

On the replay clock with daily bars the time of day means nothing, because the clock stands at closes;
so the question is about the day. A bar of the symbol on that very day answers it. Otherwise the
venue's calendar does (XNYS where the venue names none), and only then is `exchange_calendars` loaded.
"""

from datetime import datetime
from zoneinfo import ZoneInfo

import polars as pl

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.instruments import Instrument
from neural_trader_tools.market.sessions import NEW_YORK, session_times

_ZONE = ZoneInfo("America/New_York")
_SATURDAY = 5


def why_closed(instrument: Instrument, *, now: datetime, last_made: datetime | None) -> str:
    """Returns why the instrument does not trade on the clock's day; empty where it does.

    Args:
        instrument: Its venue names the calendar.
        now: The desk's (replay) clock.
        last_made: When the newest price known was made; None where none is known.
    """
    day = now.astimezone(_ZONE).date()
    if last_made is not None and (
        last_made.date() == now.date() or last_made.astimezone(_ZONE).date() == day
    ):
        return ""
    if instrument.asset_class == "crypto":
        return ""
    if day.weekday() >= _SATURDAY:
        return f"{day} is a {day:%A}"
    if instrument.asset_class not in {"equity", "etf", "index"}:
        return ""
    days = pl.Series([day])
    try:
        found = session_times(days, instrument.venue or NEW_YORK)
        calendar = instrument.venue or NEW_YORK
    except InputError:  # the source's own word for the venue
        found, calendar = session_times(days, NEW_YORK), NEW_YORK
    return "" if found.item(0, "is_session") else f"{calendar} has no session on {day}"
