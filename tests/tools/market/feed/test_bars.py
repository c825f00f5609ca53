"""Bars from trades: the same as from the sorted list, on sessions, late trades included."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_trader_governance.errors import InputError
from neural_trader_tools.market.feed.bars import BarBuilder
from neural_trader_tools.market.feed.hours import SessionHours, session_hours
from neural_trader_tools.market.feed.ticks import SECOND_NS, BarTick, Trade, parse_ns

MINUTE_NS = 60 * SECOND_NS
HOURS = SessionHours((100 * SECOND_NS, 1000 * SECOND_NS), (300 * SECOND_NS, 1105 * SECOND_NS))

NEW_YORK_DAYS = SessionHours(
    *(
        tuple(parse_ns(f"2026-{at}:00Z") for at in times)
        for times in (
            ("07-06T13:30", "11-20T14:30", "11-27T14:30"),
            ("07-06T20:00", "11-20T21:00", "11-27T18:00"),
        )
    )
)
"""Three days as the exchange publishes them; `test_trading_hours` compares the calendar with such days."""


def trade(event_ns: int, price: float = 1.0, size: float = 1.0, symbol: str = "A") -> Trade:
    return Trade(symbol, price, size, event_ns, event_ns + 1, "", "V")


def made_of(builder: BarBuilder, trades: list[Trade]) -> dict[tuple[str, int], BarTick]:
    """Feeds the trades and ends all bars; the last version of every bar counts."""
    made = [bar for one in trades if (bar := builder.add(one)) is not None] + builder.advance(2**62)
    return {(bar.symbol, bar.ts_event_ns): bar for bar in made}


@settings(max_examples=150, deadline=None)
@given(
    made=st.lists(
        st.tuples(st.integers(0, 1200), st.integers(1, 9), st.integers(1, 9), st.sampled_from("AB")),
        max_size=30,
    ),
    interval=st.sampled_from(["10s", "1m", "7m", "1d"]),
    on_sessions=st.booleans(),
)
def test_the_last_versions_of_all_bars_are_those_of_the_trades_sorted_by_time(
    made: list[tuple[int, int, int, str]], interval: str, on_sessions: bool
) -> None:
    builder = BarBuilder(interval, HOURS if on_sessions else None)
    trades = [trade(at * SECOND_NS, price, size, symbol) for at, price, size, symbol in made]
    bars = made_of(builder, trades)
    length_s = {"10s": 10, "1m": 60, "7m": 420, "1d": 86_400}[interval]
    expected: dict[tuple[str, int], list[Trade]] = {}
    for one in sorted(trades, key=lambda each: each.ts_event_ns):
        at_s = one.ts_event_ns // SECOND_NS
        if not on_sessions:
            start = at_s // length_s * length_s
        elif 100 <= at_s < 300:
            start = 100 + (at_s - 100) // length_s * length_s
        elif 1000 <= at_s < 1105:
            start = 1000 + (at_s - 1000) // length_s * length_s
        else:
            continue
        expected.setdefault((one.symbol, start * SECOND_NS), []).append(one)
    assert builder.outside + sum(map(len, expected.values())) == len(trades)
    if builder.late == 0:
        assert bars.keys() == expected.keys()
        for key, mine in expected.items():
            prices = [one.price for one in mine]
            bar = bars[key]
            assert (bar.open, bar.high, bar.low, bar.close) == (
                prices[0],
                max(prices),
                min(prices),
                prices[-1],
            )
            assert bar.volume == sum(one.size for one in mine)
    else:
        assert sum(bar.volume for bar in bars.values()) < sum(one.size for one in trades)


def test_trades_in_order_are_never_late() -> None:
    builder = BarBuilder("1m")
    made_of(builder, [trade(at * 7 * SECOND_NS) for at in range(200)])
    assert builder.late == 0


def test_a_bar_ends_with_a_later_trade_or_with_its_time_and_is_never_known_before_its_end() -> None:
    builder = BarBuilder("1m")
    assert builder.add(trade(5)) is None
    done = builder.add(trade(MINUTE_NS + 5, 2.0))
    assert done == BarTick("A", "1m", 1.0, 1.0, 1.0, 1.0, 1.0, 0, MINUTE_NS + 6)
    assert builder.advance(2 * MINUTE_NS + SECOND_NS - 1) == []
    (over,) = builder.advance(2 * MINUTE_NS + SECOND_NS)
    assert (over.ts_event_ns, over.ts_recv_ns, over.close) == (MINUTE_NS, 2 * MINUTE_NS + SECOND_NS, 2.0)
    assert builder.advance(10 * MINUTE_NS) == []


def test_a_late_trade_revises_the_bar_before_and_an_older_one_is_counted() -> None:
    builder = BarBuilder("1m")
    for at in (0, 1, 2):
        builder.add(trade(at * MINUTE_NS + 30))
    revised = builder.add(trade(MINUTE_NS + 10, 9.0))
    assert revised is not None
    assert (revised.ts_event_ns, revised.open, revised.close, revised.volume) == (MINUTE_NS, 9.0, 1.0, 2.0)
    assert builder.add(trade(10)) is None
    assert builder.late == 1


@pytest.mark.parametrize(
    ("at", "opens", "ends"),
    [
        ("2026-11-20T14:30:00Z", "2026-11-20T14:30:00Z", "2026-11-20T15:30:00Z"),
        ("2026-11-20T20:59:59.999999999Z", "2026-11-20T20:30:00Z", "2026-11-20T21:00:00Z"),
        (
            "2026-11-27T17:59:59Z",
            "2026-11-27T17:30:00Z",
            "2026-11-27T18:00:00Z",
        ),  # the day after Thanksgiving
        ("2026-07-06T13:30:00Z", "2026-07-06T13:30:00Z", "2026-07-06T14:30:00Z"),  # daylight saving
    ],
)
def test_hourly_bars_count_from_the_session_and_half_days_end_early(at: str, opens: str, ends: str) -> None:
    hours = NEW_YORK_DAYS
    builder = BarBuilder("1h", hours)
    builder.add(trade(parse_ns(at)))
    (bar,) = builder.advance(parse_ns(ends) + SECOND_NS)
    assert bar.ts_event_ns == parse_ns(opens)
    builder.add(trade(parse_ns(at) + 1))
    assert builder.advance(parse_ns(ends) + SECOND_NS - 1) == []


@pytest.mark.parametrize(
    "outside",
    [
        "2026-11-20T14:29:59.999999999Z",
        "2026-11-20T21:00:00Z",
        "2026-11-26T15:00:00Z",
        "2026-11-21T15:00:00Z",
    ],
)
def test_trades_outside_the_session_make_no_bar_and_are_counted(outside: str) -> None:
    hours = NEW_YORK_DAYS
    builder = BarBuilder("1d", hours)
    assert builder.add(trade(parse_ns(outside))) is None
    assert builder.advance(2**62) == []
    assert builder.outside == 1


def test_a_market_that_never_closes_needs_no_calendar() -> None:
    assert session_hours("24/7", datetime(2026, 1, 1, tzinfo=UTC), 7) == SessionHours()
    with pytest.raises(InputError):
        BarBuilder("1w")
