"""Silence: too long in session, of no meaning out of hours."""

from datetime import UTC, datetime

from neural_trader_tools.market.feed.hours import SessionHours, session_hours
from neural_trader_tools.market.feed.mute import MuteWatch
from neural_trader_tools.market.feed.ticks import SECOND_NS, parse_ns

FRIDAY = session_hours("XNYS", datetime(2026, 11, 20, tzinfo=UTC), 4)
OPEN_NS, CLOSE_NS = parse_ns("2026-11-20T14:30:00Z"), parse_ns("2026-11-20T21:00:00Z")


def test_silence_beyond_the_bound_is_mute_in_session_only() -> None:
    watch = MuteWatch(60, FRIDAY)
    watch.opened(OPEN_NS - 3600 * SECOND_NS)
    assert not watch.is_mute(OPEN_NS - 1)  # an hour of silence before the open
    assert not watch.is_mute(OPEN_NS + 60 * SECOND_NS)  # counted from the open
    assert watch.is_mute(OPEN_NS + 60 * SECOND_NS + 1)
    watch.heard(CLOSE_NS - 30 * SECOND_NS)
    for over in ("2026-11-20T21:00:00Z", "2026-11-21T15:00:00Z", "2026-11-22T15:00:00Z"):
        assert not watch.is_mute(parse_ns(over))
    assert watch.is_mute(parse_ns("2026-11-23T14:31:01Z"))


def test_each_mute_connection_is_given_twice_as_long_and_data_set_it_back() -> None:
    watch = MuteWatch(60)
    bounds: list[float] = []
    now_ns = 1
    for _ in range(8):
        watch.opened(now_ns)
        bounds.append(watch.bound_s)
        now_ns += round(watch.bound_s * SECOND_NS) + 1
        assert watch.is_mute(now_ns)
    assert bounds == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    watch.heard(now_ns)
    assert watch.bound_s == 60


def test_a_bound_longer_than_the_longest_stays() -> None:
    watch = MuteWatch(7200, SessionHours())
    watch.opened(1)
    assert watch.is_mute(7200 * SECOND_NS + 2)
    assert watch.bound_s == 7200
