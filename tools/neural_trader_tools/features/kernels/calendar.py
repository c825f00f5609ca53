"""The calendar at a bar's open, in UTC shifted by whole hours: known beforehand, so it looks at no price.

`time` counts seconds since 1970-01-01.
"""

import math

from neural_trader_tools.features.compiled import Floats, jit


@jit
def _civil(days: float) -> tuple[float, float, float]:
    """Year, month and day of a count of days since 1970-01-01 (Howard Hinnant's `civil_from_days`)."""
    shifted = int(days) + 719468
    era = shifted // 146097
    day_of_era = shifted - era * 146097
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    year = year_of_era + era * 400 + (1 if month <= 2 else 0)
    return float(year), float(month), float(day)


def day_of_week(
    start: int,
    stop: int,
    size: int,
    time: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """1 Monday … 7 Sunday."""
    for i in range(start, stop):
        days = math.floor((time[i] + 3600.0 * params[0]) / 86400.0)
        out[i] = float((int(days) + 3) % 7 + 1)


def day_of_month(
    start: int,
    stop: int,
    size: int,
    time: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """1 … 31."""
    for i in range(start, stop):
        _, _, out[i] = _civil(math.floor((time[i] + 3600.0 * params[0]) / 86400.0))


def month(
    start: int,
    stop: int,
    size: int,
    time: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """1 … 12."""
    for i in range(start, stop):
        _, out[i], _ = _civil(math.floor((time[i] + 3600.0 * params[0]) / 86400.0))


def days_to_month_end(
    start: int,
    stop: int,
    size: int,
    time: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Calendar days that the month has left after this one."""
    for i in range(start, stop):
        year, now, day = _civil(math.floor((time[i] + 3600.0 * params[0]) / 86400.0))
        length = 31.0
        if now == 4.0 or now == 6.0 or now == 9.0 or now == 11.0:
            length = 30.0
        elif now == 2.0:
            is_leap = year % 4.0 == 0.0 and (year % 100.0 != 0.0 or year % 400.0 == 0.0)
            length = 29.0 if is_leap else 28.0
        out[i] = length - day


def minute_of_day(
    start: int,
    stop: int,
    size: int,
    time: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Minutes since midnight."""
    for i in range(start, stop):
        seconds = time[i] + 3600.0 * params[0]
        out[i] = (seconds - 86400.0 * math.floor(seconds / 86400.0)) / 60.0


def minutes_since_open(
    start: int,
    stop: int,
    size: int,
    time: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Minutes since the day's first bar that was seen."""
    session = state[0]
    opened = state[1]
    for i in range(start, stop):
        today = math.floor((time[i] + 3600.0 * params[0]) / 86400.0) + 1.0
        if today != session:
            session = today
            opened = time[i]
        out[i] = (time[i] - opened) / 60.0
    state[0] = session
    state[1] = opened
