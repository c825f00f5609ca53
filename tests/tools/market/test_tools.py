"""The market's tools as an agent calls them: search, bars, quotes."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neural_trader_governance.errors import DataError, InputError
from neural_trader_governance.terms.clocks import SimulatedClock, WallClock
from neural_trader_tools.artifacts import Artifacts
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.feed.board import FEEDS, Board, FeedStanding, FeedState, LastPrice
from neural_trader_tools.market.get_bars import market_get_bars
from neural_trader_tools.market.get_quotes import market_get_quotes
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.market.search import market_search, ranked

pytestmark = pytest.mark.anyio
INLINE_BYTES_MAX = 8 << 10


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "artifacts")


@pytest.fixture
def replay(sample: Archive, tmp_path: Path) -> ReplayClock:
    return ReplayClock(sample, tmp_path / "replay.db")


async def test_bars_show_the_newest_rows_and_keep_the_rest_behind_the_handle(
    sample: Archive, artifacts: Artifacts, replay: ReplayClock
) -> None:
    result = await market_get_bars(
        sample, artifacts, replay, symbol="AAPL", start="2005-01-01", end="2006-01-01"
    )
    assert result.row_count == 252
    assert list(result.columns) == ["time", "open", "high", "low", "close", "volume"]
    assert result.columns["time"][-1] == "2005-12-30T14:30:00Z"
    assert {len(values) for values in result.columns.values()} == {20}
    assert result.note is not None
    assert "newest 20 of 252" in result.note
    assert len(result.model_dump_json()) < INLINE_BYTES_MAX
    assert result.handle is not None
    assert artifacts.get(result.handle).height == 252


async def test_even_the_longest_default_answer_stays_small(
    sample: Archive, artifacts: Artifacts, replay: ReplayClock
) -> None:
    result = await market_get_bars(
        sample, artifacts, replay, symbol="^GSPC", limit=100, columns=["close"], format="detailed"
    )
    assert len(result.model_dump_json()) < INLINE_BYTES_MAX
    assert list(result.columns) == ["time", "known_time", "close"]
    assert result.data_version == sample.data_version("^GSPC")
    assert result.dataset == "arch-sp500"


async def test_a_set_replay_clock_hides_its_future_from_every_read(
    sample: Archive, artifacts: Artifacts, replay: ReplayClock
) -> None:
    replay.set(datetime(2005, 2, 25, 21, tzinfo=UTC))
    for as_of in (None, "2010-01-01"):
        result = await market_get_bars(sample, artifacts, replay, symbol="AAPL", as_of=as_of)
        assert result.columns["time"][-1] == "2005-02-25T14:30:00Z"
        assert result.columns["close"][-1] == 88.99
        assert result.as_of == datetime(2005, 2, 25, 21, tzinfo=UTC)
    earlier = await market_get_bars(sample, artifacts, replay, symbol="AAPL", as_of="2004-01-02")
    assert earlier.columns["time"][-1] == "2003-12-31T14:30:00Z"


async def test_a_range_without_bars_is_empty_and_says_what_there_is(
    sample: Archive, artifacts: Artifacts, replay: ReplayClock
) -> None:
    result = await market_get_bars(sample, artifacts, replay, symbol="FB", end="2010-01-01")
    assert (result.row_count, result.handle) == (0, None)
    assert result.note is not None
    assert "2012-05-18 to 2013-03-01" in result.note


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"symbol": "APPL"}, DataError, "did you mean AAPL"),
        ({"symbol": "\uff21APL"}, DataError, "unknown_symbol"),
        ({"symbol": "AAPL", "interval": "1x"}, InputError, "invalid_interval"),
        ({"symbol": "AAPL", "interval": "1m"}, DataError, "no_bars"),
        ({"symbol": "AAPL", "start": "yesterday"}, InputError, "invalid_time"),
        ({"symbol": "AAPL", "start": "2012-01-01", "end": "2011-01-01"}, InputError, "invalid_range"),
        ({"symbol": "AAPL", "start": "2012-01-01", "end": "2012-01-01"}, InputError, "invalid_range"),
        ({"symbol": "AAPL", "as_of": "2012-01-01T00:00:00"}, InputError, "naive_time"),
        ({"symbol": "AAPL", "limit": 0}, InputError, "invalid_limit"),
        ({"symbol": "AAPL", "limit": 10**30}, InputError, "invalid_limit"),
        ({"symbol": "AAPL", "limit": float("nan")}, InputError, "invalid_limit"),
        ({"symbol": "AAPL", "adjust": "split"}, InputError, "did you mean splits"),
        ({"symbol": "AAPL", "columns": ["clsoe"]}, InputError, "did you mean close"),
        ({"symbol": "AAPL", "format": "long"}, InputError, "unknown_format"),
    ],
)
async def test_wrong_arguments_end_in_an_error_that_says_what_to_do(
    sample: Archive,
    artifacts: Artifacts,
    replay: ReplayClock,
    arguments: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        await market_get_bars(sample, artifacts, replay, **arguments)


def live_price(archive: Archive, symbol: str, price: float, made: datetime, *, state: FeedState) -> None:
    """Shows a price on the board of a feed that wrote two seconds after it was made."""
    board = Board(archive.root / FEEDS / "test-iex")
    written = made + timedelta(seconds=2)
    ns = round(made.timestamp()) * 1_000_000_000
    board.write(
        FeedStanding(feed="test-iex", kind="live", state=state, started_time=made, written_time=written),
        [LastPrice(symbol, price, ns, price - 0.01, None, ns, ns)],
    )
    board.close()


async def test_a_live_feed_answers_where_it_has_a_newer_price_and_says_its_age(sample_copy: Archive) -> None:
    made = datetime(2026, 11, 20, 15, 30, tzinfo=UTC)
    machine = SimulatedClock(made + timedelta(seconds=3.5))
    replay = ReplayClock(sample_copy)
    live_price(sample_copy, "AAPL", 190.254, made, state="live")
    result = await market_get_quotes(replay, sample_copy, machine, symbols=["AAPL", "MSFT"])
    aapl, msft = result.quotes
    assert result.clock_time == machine.now()
    assert (aapl.last, aapl.bid, aapl.ask) == (Decimal("190.25"), Decimal("190.24"), None)
    assert (aapl.age_s, aapl.source, aapl.event_time) == (3.5, "feed test-iex", made)
    assert msft.source.startswith("archive bokeh-stocks")
    live_price(sample_copy, "TSLA", 400.0, made, state="ended")  # what the archive has never heard of
    [tsla] = (await market_get_quotes(replay, sample_copy, machine, symbols=["TSLA"])).quotes
    assert (tsla.last, tsla.source) == (Decimal("400.0"), "feed test-iex, which is not running")


async def test_no_live_price_is_shown_where_it_is_older_or_of_a_replay_clocks_future(
    sample_copy: Archive,
) -> None:
    replay, machine = ReplayClock(sample_copy), SimulatedClock(datetime(2026, 11, 20, 16, tzinfo=UTC))
    live_price(sample_copy, "AAPL", 1.0, datetime(2000, 1, 3, 15, tzinfo=UTC), state="live")
    [older] = (await market_get_quotes(replay, sample_copy, machine, symbols=["AAPL"])).quotes
    assert older.source.startswith("archive")
    live_price(sample_copy, "AAPL", 190.0, datetime(2026, 11, 20, 15, tzinfo=UTC), state="live")
    replay.set(datetime(2012, 6, 1, tzinfo=UTC))
    result = await market_get_quotes(replay, sample_copy, machine, symbols=["AAPL"])
    assert result.quotes[0].source.startswith("archive")
    assert result.clock_time == replay.now()


async def test_quotes_carry_their_age_on_the_desks_clock(sample: Archive, replay: ReplayClock) -> None:
    replay.set(datetime(2012, 5, 21, 12, tzinfo=UTC))
    result = await market_get_quotes(replay, sample, WallClock(), symbols=["FB", "AAPL", "FB"])
    assert [quote.symbol for quote in result.quotes] == ["FB", "AAPL"]
    assert result.quotes[0].age_s == 64 * 3600  # from Friday's close to Monday noon
    assert '"last":"38.23"' in result.model_dump_json()
    assert result.quotes[0].bid is None
    with pytest.raises(DataError, match="unknown_symbol"):
        await market_get_quotes(replay, sample, WallClock(), symbols=["AAPL", "NOPE"])
    for symbols in ([], ["AAPL"] * 51):
        with pytest.raises(InputError, match="invalid_symbols"):
            await market_get_quotes(replay, sample, WallClock(), symbols=symbols)


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("AAPL", "AAPL"),
        ("aapl", "AAPL"),
        ("apple", "AAPL"),
        ("appel", "AAPL"),
        ("Microsft", "MSFT"),
        ("goog", "GOOG"),
        ("gspc", "^GSPC"),
        ("S&P", "^GSPC"),
        ("crude", "WTI"),
        ("fáceböok", "FB"),
    ],
)
async def test_search_finds_by_symbol_and_name_with_typos(sample: Archive, query: str, first: str) -> None:
    result = await market_search(sample, query=query)
    assert result.instruments[0].symbol == first


async def test_search_lists_everything_and_says_when_nothing_matches(
    sample: Archive, archive: Archive
) -> None:
    everything = await market_search(sample, limit=3)
    assert (len(everything.instruments), everything.matched) == (3, 9)
    assert everything.instruments[0].intervals == ("1d",)
    nothing = await market_search(sample, query="zzzzzz")
    assert nothing.instruments == []
    assert nothing.note is not None
    empty = await market_search(archive)
    assert empty.note is not None
    assert "data fetch sample" in empty.note
    with pytest.raises(InputError, match="query_too_long"):
        await market_search(sample, query="x" * 101)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(query=st.text(max_size=100))
def test_no_query_breaks_the_search(sample: Archive, query: str) -> None:
    assert len(ranked(query, sample.instruments())) <= 9
