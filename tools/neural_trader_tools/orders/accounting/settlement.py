"""The settlement calendar: on which day a trade's cash and shares change hands.

A trade settles on the first settlement day after its trade date: T+1, SEC Rule 15c6-1 since 2024-05-28. The
desk lives under that rule whatever year it replays. A settlement day is a weekday on which both the exchanges
and the banks work, so Columbus Day and Veterans Day, on which stocks trade, are none (FINRA's yearly notices
of Regulation T settlement dates say so): a trade of that day settles with the day before's.

The rules of holidays stand here, instead of a calendar package's table, because each decision asks: the
package takes seconds to import. Closings by decree (a president's funeral, a hurricane) are not in them.
"""

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("America/New_York")
CYCLE_DAYS = 1
_MONDAY, _THURSDAY = 0, 3


def trade_date(moment: datetime) -> date:
    """Returns the date, in New York, on which something was traded at an instant."""
    return moment.astimezone(ZONE).date()


def is_settlement_day(day: date) -> bool:
    """Tells whether securities and money change hands on a date."""
    return day.weekday() < 5 and day not in _holidays(day.year)


def settlement_date(traded: date, cycle_days: int = CYCLE_DAYS) -> date:
    """Returns when a trade of a date settles: so many settlement days after it."""
    day = traded
    for _ in range(cycle_days):
        day += timedelta(days=1)
        while not is_settlement_day(day):
            day += timedelta(days=1)
    return day


def unsettled_since(moment: datetime) -> datetime:
    """Returns the instant from which on trades have not settled at `moment`: a start of day in New York.

    What is due on a date counts as settled from that date's start.
    """
    today = trade_date(moment)
    first = today
    while settlement_date(first - timedelta(days=1)) > today:
        first -= timedelta(days=1)
    return datetime.combine(first, time(), ZONE).astimezone(UTC)


@lru_cache(maxsize=256)
def _holidays(year: int) -> frozenset[date]:
    """Returns the weekdays of a year on which banks (Federal Reserve) or exchanges (Good Friday) rest.

    Source: federalreserve.gov/aboutthefed/k8.htm. One that falls on a Sunday is kept on the Monday after; the
    Reserve Banks are open on the Friday before one that falls on a Saturday, but the exchanges are not
    (NYSE Rule 7.2), except at the end of a year.
    """
    fixed = [date(year, 1, 1), date(year, 7, 4), date(year, 11, 11), date(year, 12, 25)]
    if year >= 2022:
        fixed.append(date(year, 6, 19))
    days = {_nth(year, 2, _MONDAY, 3), _nth(year, 9, _MONDAY, 1), _nth(year, 10, _MONDAY, 2)}
    days |= {_nth(year, 11, _THURSDAY, 4), _last_monday_of_may(year), _easter(year) - timedelta(days=2)}
    if year >= 1986:
        days.add(_nth(year, 1, _MONDAY, 3))
    for day in fixed:
        if day.weekday() == 6:
            days.add(day + timedelta(days=1))
        elif day.weekday() == 5 and (day.month, day.day) not in {(1, 1), (11, 11)}:
            days.add(day - timedelta(days=1))
        else:
            days.add(day)
    return frozenset(days)


def _nth(year: int, month: int, weekday: int, number: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (number - 1))


def _last_monday_of_may(year: int) -> date:
    last = date(year, 5, 31)
    return last - timedelta(days=last.weekday())


def _easter(year: int) -> date:
    """Returns Easter Sunday: the anonymous Gregorian computus (Nature, 20 April 1876)."""
    golden, century = year % 19, year // 100
    epact = (century - century // 4 - (8 * century + 13) // 25 + 19 * golden + 15) % 30
    moon = epact - epact // 28 * (1 - epact // 28 * (29 // (epact + 1)) * ((21 - golden) // 11))
    weekday = (year + year // 4 + moon + 2 - century + century // 4) % 7
    offset = moon - weekday
    month = 3 + (offset + 40) // 44
    return date(year, month, offset + 28 - 31 * (month // 4))
