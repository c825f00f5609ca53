"""Resampling: bars of an interval that is not stored, made of finer ones, as of any moment.

A derived bar is what a stored one would have been:

- It never crosses a session's boundary. Intervals below a day are counted from the session's open and end
  at its close at the latest: XNYS's last hour of a day is 30 minutes long, and a half day has fewer. `1d` is
  the session, `1w` the sessions from Monday to Sunday. On `24/7` a session is a UTC day, so 7m and 5h start
  anew at midnight. Bars outside the sessions (before and after hours) go into no derived bar.
- `event_time` is the open of its interval, traded or not; `known_time` is when the newest constituent was
  known and the interval was over. Where the last constituent is missing, nobody can tell a quiet market from
  a late delivery: then the bar is over once the next bar of the series is known, and until then not shown.
- The constituents are those known at `as_of`, so a late or corrected one makes a later version of the bar.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from neural_trader_governance.errors import DataError
from neural_trader_governance.terms.market import interval_duration
from neural_trader_tools.market.frames import BAR_SCHEMA, PRICE_COLUMNS, UTC_MICROSECONDS, empty

DAY = timedelta(days=1)
WEEK = timedelta(weeks=1)
USUAL = ("1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w")
"""What lists of derivable intervals name; any other multiple of a stored one works too."""


@dataclass(frozen=True, slots=True)
class Span:
    """How far a stored series reaches."""

    first: datetime
    last: datetime


def source_of(stored: dict[str, Span], wanted: str) -> str | None:
    """Returns the stored interval that bars of `wanted` are made of, or None where none will do.

    An interval of the same length (`60m` for `1h`) is taken as it is. Of several that would do, the series
    that reaches furthest wins (in whole weeks), then the coarsest, which is the fewest rows.

    Args:
        stored: The intervals of a symbol, with their spans.
        wanted: The interval asked for.

    Raises:
        InputError: `wanted` is no interval.
    """
    length = interval_duration(wanted)
    for interval in stored:
        if interval_duration(interval) == length:
            return interval
    able = [each for each in stored if is_made_of(interval_duration(each), length)]
    return max(able, key=lambda each: _reach(stored[each], interval_duration(each)), default=None)


def is_made_of(part: timedelta, whole: timedelta) -> bool:
    """Says whether bars of one length can be made of bars of another."""
    if whole == WEEK:
        return part <= DAY
    return part < whole and (whole == DAY or (whole < DAY and whole % part == timedelta()))


def derivable(stored: Iterable[str]) -> tuple[str, ...]:
    """Returns the usual intervals that are not stored but can be derived, ascending."""
    lengths = [interval_duration(each) for each in stored]
    wanted = ((each, interval_duration(each)) for each in USUAL)
    return tuple(
        each
        for each, length in wanted
        if length not in lengths and any(is_made_of(one, length) for one in lengths)
    )


def resampled(
    bars: pl.DataFrame,
    part: timedelta,
    whole: timedelta,
    sessions: pl.DataFrame | None,
    next_known: datetime | None = None,
) -> pl.DataFrame:
    """Returns the bars of length `whole` that bars of length `part` make, whole ones only.

    Args:
        bars: `frames.BAR_SCHEMA`, ascending, one row per event_time: what was known at the read's as_of.
        part: Their length.
        whole: The length wanted; `is_made_of(part, whole)` holds.
        sessions: `date, open, close` of the sessions that the bars lie in and of those around them,
            ascending; None on `24/7`.
        next_known: known_time of the series' next bar after these, if any.

    Raises:
        DataError: `bars_straddle_session`, a bar reaches over a session's open, so that nothing can be cut
            there.
    """
    if bars.is_empty():
        return empty(BAR_SCHEMA)
    bars = bars.with_columns(pl.col("known_time").shift(-1).alias("next_known"))
    weekly = whole == WEEK
    placed = _in_weeks(bars, part, sessions) if weekly else _in_sessions(bars, part, whole, sessions)
    made = placed.group_by("bar_open", maintain_order=True).agg(
        pl.col("bar_end").last(),
        pl.col("end").last(),
        pl.col("known_time").max(),
        pl.col("next_known").last(),
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume").sum(),
    )
    known_next = pl.col("next_known").fill_null(pl.lit(next_known, dtype=UTC_MICROSECONDS))
    reaches = pl.col("end") >= pl.col("bar_end")
    known = pl.when(reaches).then("known_time").otherwise(pl.max_horizontal("known_time", known_next))
    whole_bars = made.filter(reaches | known_next.is_not_null())
    return whole_bars.select(
        pl.col("bar_open").alias("event_time"),
        pl.max_horizontal(known, "bar_end").alias("known_time"),
        *PRICE_COLUMNS,
        "volume",
    ).cast(dict(BAR_SCHEMA))  # pyright: ignore[reportArgumentType] (a schema is such a mapping)


def _in_sessions(
    bars: pl.DataFrame, part: timedelta, whole: timedelta, sessions: pl.DataFrame | None
) -> pl.DataFrame:
    """Adds `bar_open, bar_end` of the derived bar and `end` of the bar itself; drops what lies outside."""
    event = pl.col("event_time")
    if sessions is None:
        opens = bars.with_columns(event.dt.truncate("1d").alias("session_open")).with_columns(
            (pl.col("session_open") + DAY).alias("session_close")
        )
    else:
        hours = sessions.select(
            pl.col("open").alias("session_open"),
            pl.col("close").alias("session_close"),
            pl.col("open").shift(-1).alias("next_open"),
        )
        opens = bars.join_asof(
            hours, left_on="event_time", right_on="session_open", coalesce=False, check_sortedness=False
        )
        over = opens.filter((event < pl.col("next_open")) & (event + part > pl.col("next_open")))
        if over.height:
            raise DataError(
                "bars_straddle_session",
                f"{over.height} bars reach over a session's open, the first at"
                f" {over.item(0, 'event_time'):%Y-%m-%dT%H:%MZ}",
                "store finer bars (1m) that can be cut there, or ask for the stored interval",
            )
        opens = opens.filter(event < pl.col("session_close"))
    start = pl.col("session_open")
    if whole < DAY:
        passed = (event - start).dt.total_microseconds() // _micros(whole)
        start = start + pl.duration(microseconds=passed * _micros(whole))
    opens = opens.with_columns(start.alias("bar_open"))
    end = pl.col("session_close")
    if whole < DAY:
        end = pl.min_horizontal(end, pl.col("bar_open") + whole)
    return opens.with_columns(
        end.alias("bar_end"), pl.min_horizontal(event + part, "session_close").alias("end")
    )


def _in_weeks(bars: pl.DataFrame, part: timedelta, sessions: pl.DataFrame | None) -> pl.DataFrame:
    """As `_in_sessions` for daily bars: a session's by its date, others by the UTC date of their open."""
    midnight = pl.col("monday").cast(UTC_MICROSECONDS)
    if sessions is None:
        dated = bars.with_columns(
            pl.col("event_time").dt.date().dt.truncate("1w").alias("monday"),
            (pl.col("event_time") + part).alias("end"),
        )
        return dated.with_columns(midnight.alias("bar_open"), (midnight + WEEK).alias("bar_end"))
    days = sessions.select("date", pl.col("open").alias("event_time"), pl.col("close").alias("end"))
    weeks = (
        sessions.group_by(pl.col("date").dt.truncate("1w").alias("monday"))
        .agg(pl.col("open").min().alias("week_open"), pl.col("close").max().alias("week_end"))
        .sort("monday")
    )
    dated = bars.join(days, on="event_time", how="left", maintain_order="left").with_columns(
        pl.coalesce("date", pl.col("event_time").dt.date()).dt.truncate("1w").alias("monday"),
        pl.coalesce("end", pl.col("event_time") + part).alias("end"),
    )
    placed = dated.join(weeks, on="monday", how="left", maintain_order="left")
    return placed.with_columns(
        pl.coalesce("week_open", midnight).alias("bar_open"),
        pl.coalesce("week_end", midnight + WEEK).alias("bar_end"),
    )


def _micros(length: timedelta) -> int:
    return length // timedelta(microseconds=1)


def _reach(span: Span, length: timedelta) -> tuple[int, timedelta]:
    return (span.last - span.first) // WEEK, length
