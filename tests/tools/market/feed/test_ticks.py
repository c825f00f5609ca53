"""Ticks: times to the nanosecond, and the message types."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_governance.errors import DataError
from neural_trader_tools.market.feed.ticks import (
    SECOND_NS,
    TIME_NS_MAX,
    BarTick,
    Event,
    Gap,
    Quote,
    Trade,
    format_ns,
    parse_ns,
)

in_range = st.integers(-TIME_NS_MAX + 86_400 * SECOND_NS, TIME_NS_MAX - 86_400 * SECOND_NS)


@given(moment=in_range)
def test_every_nanosecond_comes_back_as_it_was_written(moment: int) -> None:
    assert parse_ns(format_ns(moment)) == moment


@given(
    moment=st.datetimes(datetime(1700, 1, 1), datetime(2260, 1, 1)),  # noqa: DTZ001 (hypothesis adds no zone)
    offset=st.integers(-23 * 60, 23 * 60),
    digits=st.text("0123456789", max_size=9),
)
def test_offsets_and_fractions_of_any_length_agree_with_datetime(
    moment: datetime, offset: int, digits: str
) -> None:
    local = moment.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=offset)))
    sign, minutes = "+" if offset >= 0 else "-", abs(offset)
    text = (
        f"{local:%Y-%m-%dT%H:%M:%S}{'.' + digits if digits else ''}{sign}{minutes // 60:02}:{minutes % 60:02}"
    )
    whole = (local - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    assert parse_ns(text) == whole * SECOND_NS + int(digits.ljust(9, "0") or 0)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1985-04-12T23:20:50.52Z", 482_196_050_520_000_000),  # RFC 3339, 5.8
        ("1996-12-19T16:39:57-08:00", 851_042_397 * SECOND_NS),  # RFC 3339, 5.8
        ("1937-01-01T12:00:27.87+00:20", -1_041_337_172_130_000_000),  # RFC 3339, 5.8
        ("2026-11-20T15:30:00.123456789Z", 1_795_188_600_123_456_789),
        ("2026-11-20 15:30:00.000000001Z", 1_795_188_600_000_000_001),
    ],
)
def test_published_times_have_their_published_instants(text: str, nanoseconds: int) -> None:
    assert parse_ns(text) == nanoseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "2026-11-20",
        "2026-11-20T15:30:00",
        "2026-11-20T15:30:00.Z",
        "2026-11-20T15:30:00.1234567890Z",
        "2026-11-20T15:30:00.12345_789Z",
        "2026-11-20T15:30:00.+23456789Z",
        "2026-11-20T15:30:00." + "\N{FULLWIDTH DIGIT ONE}" * 9 + "Z",
        "2026-11-20T15:30:00.123456789Z ",
        "2026-11-20T15:30:00+24:00",
        "2026-11-20T15:30:60Z",
        "2026-02-30T15:30:00Z",
        "9999-01-01T00:00:00Z",
        "1600-01-01T00:00:00Z",
        "20261120T1530000000Z",
    ],
)
def test_what_is_no_time_is_refused_with_its_text(text: str) -> None:
    parse_ns("2026-11-20T15:30:00Z")  # the second is remembered; the rest must still be read
    with pytest.raises(DataError) as refused:
        parse_ns(text)
    assert refused.value.code == "invalid_time"


def test_every_kind_of_event_is_told_apart_after_json() -> None:
    events: list[Event] = [
        Trade("AAPL", 190.5, 100.0, 1, 2, "7", "V", ("@", "I")),
        Quote("AAPL", 190.0, 1.0, 191.0, 2.0, 1, 2, "V"),
        BarTick("AAPL", "1m", 1.0, 2.0, 0.5, 1.5, 10.0, 0, 60),
        Gap("", 1, 2, "reconnect"),
    ]
    read: list[Event] = msgspec.json.decode(msgspec.json.encode(events), type=list[Event])
    assert read == events


def test_a_tick_cannot_be_changed_after_it_was_made() -> None:
    trade = Trade("AAPL", 190.5, 100.0, 1, 2, "7", "V")
    with pytest.raises(AttributeError):
        trade.price = 1.0  # pyright: ignore[reportAttributeAccessIssue]
