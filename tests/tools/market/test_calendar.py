"""The tool `market_get_calendar`: sessions as published, actions as known."""

from pathlib import Path

import pytest

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.clocks import parse_time
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.get_calendar import market_get_calendar
from neural_trader_tools.market.replay import ReplayClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def replay(sample_copy: Archive, tmp_path: Path) -> ReplayClock:
    return ReplayClock(sample_copy, tmp_path / "replay.db")


async def test_sessions_are_those_that_the_exchange_published(
    sample_copy: Archive, replay: ReplayClock
) -> None:
    """Thanksgiving 2012 was closed and the day after a half day (NYSE's holiday schedule)."""
    result = await market_get_calendar(sample_copy, replay, start="2012-11-21", end="2012-11-27")
    assert result.sessions == {
        "date": ["2012-11-21", "2012-11-23", "2012-11-26"],
        "open": [f"2012-11-{day}T14:30:00Z" for day in (21, 23, 26)],
        "close": ["2012-11-21T21:00:00Z", "2012-11-23T18:00:00Z", "2012-11-26T21:00:00Z"],
        "half_day": [False, True, False],
    }
    (kept,) = (sample_copy.root / "calendars").iterdir()
    assert kept.name.startswith("XNYS.")


async def test_a_venue_without_sessions_trades_every_day(sample_copy: Archive, replay: ReplayClock) -> None:
    result = await market_get_calendar(
        sample_copy, replay, venue="24/7", start="2012-12-31", end="2013-01-02"
    )
    assert result.sessions["date"] == ["2012-12-31", "2013-01-01"]
    assert result.sessions["close"] == ["2013-01-01T00:00:00Z", "2013-01-02T00:00:00Z"]
    tokyo = await market_get_calendar(sample_copy, replay, venue="XTKS", start="2012-12-31", end="2013-01-04")
    assert tokyo.sessions["date"] == []
    assert tokyo.note == "XTKS has no session in that range"


async def test_without_dates_it_is_two_weeks_from_the_desks_clock(
    sample_copy: Archive, replay: ReplayClock
) -> None:
    replay.set(parse_time("2012-12-20T21:00:00Z"))
    result = await market_get_calendar(sample_copy, replay)
    assert (result.sessions["date"][0], result.sessions["date"][-1]) == ("2012-12-20", "2013-01-02")
    assert result.sessions["half_day"].count(True) == 1  # Christmas Eve


async def test_actions_are_those_known_at_the_desks_clock(sample_copy: Archive, replay: ReplayClock) -> None:
    replay.set(parse_time("2005-02-27T00:00:00Z"))
    arguments = {"start": "2005-02-01", "end": "2005-03-31", "symbols": ["AAPL", "IBM", "AAPL"]}
    before = await market_get_calendar(sample_copy, replay, **arguments)  # type: ignore[arg-type]
    assert {name: values[0] for name, values in before.actions.items()} == {
        "symbol": "IBM",
        "date": "2005-02-08",
        "known_time": "2005-02-08T05:00:00Z",
        "kind": "dividend",
        "value": 0.18,
    }
    replay.set(parse_time("2005-02-28T21:00:00Z"))
    after = await market_get_calendar(sample_copy, replay, **arguments)  # type: ignore[arg-type]
    rows = list(zip(*(after.actions[name] for name in ("symbol", "date", "kind", "value")), strict=True))
    assert rows == [("AAPL", "2005-02-28", "split", 2.0), ("IBM", "2005-02-08", "dividend", 0.18)]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"venue": "XMARS"}, "unknown_calendar"),
        ({"start": "2000-01-01", "end": "2002-01-01"}, "invalid_range"),
        ({"start": "1800-01-01"}, "invalid_range"),
        ({"symbols": [f"S{i}" for i in range(21)]}, "invalid_symbols"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    sample_copy: Archive, replay: ReplayClock, arguments: dict[str, object], code: str
) -> None:
    with pytest.raises(InputError, match=code):
        await market_get_calendar(sample_copy, replay, **arguments)  # type: ignore[arg-type]
