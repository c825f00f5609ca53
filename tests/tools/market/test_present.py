"""The present: the machine's time, the feed's price where it is newer, and nothing to set."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from tests.tools.market.test_tools import live_price

from neural_trader_governance.errors import DataError, InputError
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.present import PresentClock

MADE = datetime(2026, 11, 20, 15, 30, tzinfo=UTC)


def test_it_is_the_machines_time_whatever_the_archive_or_a_replay_says(sample_copy: Archive) -> None:
    machine = SimulatedClock(MADE)
    clock = PresentClock(sample_copy, machine)
    assert (clock.now(), clock.horizon(), clock.kind) == (MADE, None, "wall")
    machine.advance(timedelta(hours=1))
    assert clock.now() == MADE + timedelta(hours=1)
    for move in (lambda: clock.set(MADE), clock.step):
        with pytest.raises(InputError, match="clock_is_real"):
            move()


def test_a_price_is_the_feeds_where_that_is_newer_and_says_when_it_was_made(sample_copy: Archive) -> None:
    clock = PresentClock(sample_copy, SimulatedClock(MADE + timedelta(seconds=3)))
    old = clock.quote("AAPL")
    assert (old.last, old.event_time.year) == (Decimal("430.47"), 2013), "policy refuses what is so old"
    live_price(sample_copy, "AAPL", 190.254, MADE, state="live")
    new = clock.quote("AAPL")
    assert (new.last, new.event_time, new.source) == (Decimal("190.25"), MADE, "feed test-iex")
    live_price(sample_copy, "AAPL", 1.0, datetime(2000, 1, 3, 15, tzinfo=UTC), state="live")
    assert clock.quote("AAPL") == old
    with pytest.raises(DataError, match="unknown_symbol"):
        clock.quote("NOPE")
