"""Time: one instant, one spelling, never backwards."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.clocks import (
    SimulatedClock,
    WallClock,
    format_time,
    from_epoch_us,
    parse_time,
    to_epoch_us,
    to_utc,
)

START = datetime(2013, 3, 1, 21, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001


@given(MOMENTS)
def test_text_and_counts_bring_the_same_instant_back(moment: datetime) -> None:
    assert parse_time(format_time(moment)) == moment
    assert from_epoch_us(to_epoch_us(moment)) == moment


@given(MOMENTS, MOMENTS)
def test_stored_counts_sort_like_time(one: datetime, other: datetime) -> None:
    assert (to_epoch_us(one) < to_epoch_us(other)) == (one < other)


def test_a_date_is_midnight_and_an_offset_is_converted() -> None:
    assert parse_time("2012-01-02") == datetime(2012, 1, 2, tzinfo=UTC)
    assert format_time(parse_time("2012-01-02T09:30:00-05:00")) == "2012-01-02T14:30:00Z"


@pytest.mark.parametrize("text", ["", "yesterday", "2012-13-01", "01/02/2012", "2012-01-02T09:30:00"])
def test_what_is_no_instant_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match=r"^(invalid|naive)_time: .*; .*20\d\d-"):
        parse_time(text)


def test_a_naive_datetime_is_no_instant() -> None:
    with pytest.raises(InputError, match=r"^naive_time: "):
        to_utc(datetime(2013, 3, 1))  # noqa: DTZ001 - the point of the test


def test_a_simulated_clock_moves_only_when_told_and_never_back() -> None:
    clock = SimulatedClock(START)
    assert clock.now() == clock.now() == START
    assert clock.advance(timedelta(hours=1)) == clock.now() == START + timedelta(hours=1)
    with pytest.raises(InputError, match=r"^clock_backwards: "):
        clock.advance_to(START)


def test_the_wall_clock_tells_utc() -> None:
    assert WallClock().now().tzinfo is UTC
    assert to_utc(START.astimezone(timezone(timedelta(hours=5)))).tzinfo is UTC
