"""Trading hours: by the day on daily bars, by the minute where bars are shorter."""

from datetime import UTC, datetime, timedelta

import pytest

from neural_trader_tools.market.archive import ListedInstrument
from neural_trader_tools.market.feed.hours import session_hours
from neural_trader_tools.market.feed.ticks import parse_ns
from neural_trader_tools.market.trading_hours import why_closed

NOON = datetime(2013, 3, 1, 17, tzinfo=UTC)


def _listed(*intervals: str, asset_class: str = "equity", venue: str = "XNYS") -> ListedInstrument:
    values = {"symbol": "AAPL", "name": "Apple", "venue": venue, "asset_class": asset_class}
    return ListedInstrument.model_validate({**values, "intervals": intervals})


@pytest.mark.parametrize(
    ("now", "open_"),
    [
        (datetime(2013, 3, 1, 14, 29, 59, 999_999, tzinfo=UTC), False),
        (datetime(2013, 3, 1, 14, 30, tzinfo=UTC), True),
        (datetime(2013, 3, 1, 21, 0, tzinfo=UTC), True),  # the closing bar is known at this instant
        (datetime(2013, 3, 1, 21, 0, 0, 1, tzinfo=UTC), False),
        (datetime(2013, 7, 1, 13, 30, tzinfo=UTC), True),  # daylight saving time
        (datetime(2013, 7, 1, 20, 1, tzinfo=UTC), False),
        (datetime(2012, 12, 24, 18, 0, tzinfo=UTC), True),  # a half day, until 13:00 in New York
        (datetime(2012, 12, 24, 18, 0, 1, tzinfo=UTC), False),
        (datetime(2013, 3, 2, 17, tzinfo=UTC), False),
    ],
)
def test_with_bars_shorter_than_a_day_the_hours_count_to_the_instant(now: datetime, open_: bool) -> None:
    made = now - timedelta(seconds=30)  # a price of the same day does not open the venue
    assert (why_closed(_listed("1m", "1d"), now=now, last_made=made) == "") is open_


def test_the_reason_names_the_hours() -> None:
    evening = datetime(2013, 3, 1, 23, tzinfo=UTC)
    said = why_closed(_listed("5m"), now=evening, last_made=None)
    assert said == "XNYS trades from 14:30 to 21:00 UTC on 2013-03-01"


def test_with_daily_bars_alone_the_time_of_day_means_nothing() -> None:
    for hour in (6, 12, 17, 23):
        assert why_closed(_listed("1d"), now=NOON.replace(hour=hour), last_made=None) == ""


def test_what_trades_around_the_clock_has_no_hours() -> None:
    night = datetime(2013, 3, 2, 3, tzinfo=UTC)
    assert why_closed(_listed("1m", asset_class="crypto", venue=""), now=night, last_made=None) == ""


def test_a_venue_that_no_calendar_knows_keeps_new_yorks_hours() -> None:
    night = datetime(2013, 3, 1, 3, tzinfo=UTC)
    assert "XNYS trades from" in why_closed(_listed("1h", venue="NasdaqGS"), now=night, last_made=None)


def test_a_live_feed_gets_the_sessions_of_the_days_ahead_in_nanoseconds() -> None:
    hours = session_hours("XNYS", datetime(2026, 11, 23, 5, tzinfo=UTC), 7)
    expected = [(f"2026-11-{day}T14:30:00Z", f"2026-11-{day}T21:00:00Z") for day in (23, 24, 25)]
    expected.append(("2026-11-27T14:30:00Z", "2026-11-27T18:00:00Z"))  # the 26th is Thanksgiving
    assert hours.opens_ns == tuple(parse_ns(opens) for opens, _ in expected)
    assert hours.closes_ns == tuple(parse_ns(closes) for _, closes in expected)
    assert hours.around(parse_ns("2026-11-27T18:00:00Z")) is None
    assert hours.around(parse_ns("2026-11-27T17:59:59.999999999Z")) == (
        hours.opens_ns[-1],
        hours.closes_ns[-1],
    )
