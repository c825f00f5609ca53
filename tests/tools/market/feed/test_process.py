"""A feed's process: what comes in is on disk, in the archive and on the board, whatever ends it."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from neural_trader_governance.errors import DataError, InputError, NetworkError, StorageError
from neural_trader_governance.terms.clocks import from_epoch_us
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.feed.board import (
    FEEDS,
    Board,
    FeedStanding,
    FeedState,
    LastPrice,
    feed_standings,
    last_prices,
    standing_of,
)
from neural_trader_tools.market.feed.compaction import open_journal
from neural_trader_tools.market.feed.lander import Lander
from neural_trader_tools.market.feed.pipeline import Pipeline
from neural_trader_tools.market.feed.process import Feed, open_feed
from neural_trader_tools.market.feed.recorded import recorded, recorded_ticks
from neural_trader_tools.market.feed.replaying import Moment, Replay
from neural_trader_tools.market.feed.source import About
from neural_trader_tools.market.feed.ticks import SECOND_NS, BarTick, Event, Quote, Trade, parse_ns

pytestmark = pytest.mark.anyio
FIRST_NS = parse_ns("2026-11-20T15:30:00Z")
MINUTE_NS = 60 * SECOND_NS
NOW = datetime(2026, 11, 20, 16, tzinfo=UTC)
ABOUT = About("test-feed", "a test", "none")


def bar(minute: int, close: float = 190.0, *, delay_ns: int = 1_001, interval: str = "1m") -> BarTick:
    event_ns = FIRST_NS + minute * MINUTE_NS
    values = (close, close + 1, close - 1, close, 1000.0)
    return BarTick("AAPL", interval, *values, event_ns, event_ns + MINUTE_NS + delay_ns)


def trade(serial: int, at_ns: int = 0, price: float = 190.25) -> Trade:
    event_ns = FIRST_NS + at_ns
    return Trade("AAPL", price, 10.0, event_ns, event_ns + 1_000, str(serial), "V")


class Given:
    """A source that brings what a test gives it, and then ends as it is told."""

    connections = 1
    missing_from_ns = 0
    state: FeedState = "live"
    problem = ""

    def __init__(self, feed: Feed, events: Sequence[Event], then: Callable[[], object] | None = None) -> None:
        self.heard_ns = 0
        self._feed = feed
        self._events = events
        self._then = then

    async def run(self) -> None:
        for event in self._events:
            await self._feed.pipeline.take([event])
            self.heard_ns = getattr(event, "ts_recv_ns", 0)
        if self._then is not None:
            self._then()
            await anyio.sleep_forever()


async def opened(archive: Archive, about: About = ABOUT) -> Feed:
    return await open_feed(archive, about, now_ns=lambda: round(NOW.timestamp()) * SECOND_NS)


async def fed(archive: Archive, *events: Event, about: About = ABOUT) -> FeedStanding:
    feed = await opened(archive, about)
    return await feed.run(Given(feed, events))


async def test_bars_land_in_the_archive_and_are_known_from_their_receipt(archive: Archive) -> None:
    last = await fed(archive, bar(0), bar(1), bar(0, 191.0, delay_ns=90 * SECOND_NS), bar(0, interval="1s"))
    assert (last.bars_landed, last.state) == (3, "ended")
    rows = archive.bars("AAPL", "1m")
    assert rows["close"].to_list() == [191.0, 190.0]
    assert archive.instrument("AAPL").intervals == ("1m",)
    known = from_epoch_us((FIRST_NS + MINUTE_NS) // 1_000) + timedelta(microseconds=2)  # rounded up
    assert archive.bars("AAPL", "1m", as_of=known)["close"].to_list() == [190.0]
    assert archive.bars("AAPL", "1m", as_of=known - timedelta(microseconds=1)).is_empty()
    [dataset] = archive.datasets()
    assert (dataset.dataset_id, dataset.known_time_assumed) == ("test-feed-live", False)


async def test_the_board_has_the_newest_prices_and_how_the_feed_stands(archive: Archive) -> None:
    quote = Quote("AAPL", 190.0, 1.0, 190.5, 0.0, FIRST_NS + 5, FIRST_NS + 6, "V")
    one_sided = Quote("MSFT", 400.0, 1.0, 0.0, 0.0, FIRST_NS, FIRST_NS, "V")
    msft = Trade("MSFT", 401.0, 1.0, FIRST_NS, FIRST_NS, "1", "V")
    bad = Trade("MSFT", -1.0, 1.0, FIRST_NS, FIRST_NS, "2", "V")
    last = await fed(archive, trade(1), quote, one_sided, msft, bad)
    assert (last.events, last.quarantined, last.acknowledged) == (5, 1, 5)
    found = last_prices(archive.root, ["AAPL", "MSFT", "NOPE"])
    assert {symbol: price for symbol, (price, _) in found.items()} == {
        "AAPL": LastPrice("AAPL", 190.25, FIRST_NS, 190.0, 190.5, FIRST_NS + 5, FIRST_NS + 1_000),
        "MSFT": LastPrice("MSFT", 401.0, FIRST_NS, 400.0, None, FIRST_NS, FIRST_NS),
    }
    [standing] = feed_standings(archive.root)
    assert standing == last
    assert not standing.is_running(NOW)
    assert standing.said(NOW).startswith("ended at 2026-11-20 16:00:00Z; last tick 1800.0 s ago")


async def test_a_bar_of_a_feed_without_trades_is_a_price_too(archive: Archive) -> None:
    await fed(archive, bar(0, 188.0))
    price, _ = last_prices(archive.root, ["AAPL"])["AAPL"]
    assert (price.price, price.price_ns, price.bid) == (188.0, FIRST_NS + MINUTE_NS, None)


async def test_a_feed_that_is_cancelled_writes_lands_and_shows_what_came(archive: Archive) -> None:
    feed = await opened(archive)
    with anyio.CancelScope() as scope:
        await feed.run(Given(feed, [trade(1), bar(0), bar(1)], scope.cancel))
    assert scope.cancelled_caught
    assert recorded(feed.root, "trade").height == 1
    assert archive.bars("AAPL", "1m").height == 2
    standing = standing_of(feed.root)
    assert standing is not None
    assert (standing.state, standing.acknowledged) == ("ended", 3)


async def test_a_source_that_cannot_go_on_ends_the_feed_as_failed_with_everything_kept(
    archive: Archive,
) -> None:
    feed = await opened(archive)

    def fail() -> None:
        raise NetworkError("gone", "it is gone", "look for it")

    with pytest.raises(NetworkError, match="gone"):
        await feed.run(Given(feed, [trade(1)], fail))
    standing = standing_of(feed.root)
    assert standing is not None
    assert (standing.state, "it is gone" in standing.problem, standing.acknowledged) == ("failed", True, 1)


async def test_the_next_process_drops_repeats_and_lands_what_the_last_did_not(archive: Archive) -> None:
    await fed(archive, trade(1))
    root = archive.root / FEEDS / ABOUT.name
    journal = open_journal(root)  # a process that is killed before it landed its bars
    journal.append(bar(0))
    journal.close()
    feed = await opened(archive)
    assert feed.heard_ns == trade(1).ts_recv_ns
    landed = Lander(archive, ABOUT.name, "", "").catch_up(root)
    assert landed == 1
    assert Lander(archive, ABOUT.name, "", "").catch_up(root) == 0
    last = await feed.run(Given(feed, [bar(0), bar(1)]))
    assert feed.pipeline.report().reasons == {"duplicate": 1}
    assert last.bars_landed == 1


async def test_what_a_process_did_not_backfill_is_left_to_the_next(archive: Archive) -> None:
    feed = await opened(archive)
    source = Given(feed, [trade(1)])
    source.missing_from_ns = FIRST_NS - 3600 * SECOND_NS  # it was told to end before the history had answered
    await feed.run(source)
    again = await opened(archive)
    assert again.missing_from_ns == FIRST_NS - 3600 * SECOND_NS
    await again.run(Given(again, [trade(2)]))
    done = await opened(archive)
    assert done.missing_from_ns == trade(2).ts_recv_ns
    await done.run(Given(done, []))


async def test_only_one_process_runs_a_feed(archive: Archive) -> None:
    feed = await opened(archive)
    with pytest.raises(StorageError, match="another process"):
        await opened(archive)
    await feed.run(Given(feed, []))
    await fed(archive)


async def test_bars_are_made_of_trades_where_that_is_asked_for(archive: Archive) -> None:
    about = About("test-feed", "a test", "none", make=("1m",))
    last = await fed(archive, trade(1), trade(2, MINUTE_NS, 191.0), about=about)
    assert last.bars_landed == 1
    assert archive.bars("AAPL", "1m")["close"].to_list() == [190.25]
    with pytest.raises(InputError):
        await opened(archive, About("other", "", "", make=("1w",)))


def test_a_feed_that_was_killed_is_seen_to_be_gone(tmp_path: Path) -> None:
    board = Board(tmp_path / "archive" / FEEDS / "x")
    standing = FeedStanding(feed="x", kind="live", state="live", started_time=NOW, written_time=NOW)
    board.write(standing, [])
    board.close()
    [read] = feed_standings(tmp_path / "archive")
    assert read.is_running(NOW + timedelta(seconds=15))
    assert not read.is_running(NOW + timedelta(seconds=16))
    assert read.said(NOW + timedelta(seconds=16)).startswith(
        "not running; last seen 2026-11-20 16:00:00Z; no tick"
    )


def test_a_board_that_is_no_database_is_not_there(tmp_path: Path) -> None:
    root = tmp_path / FEEDS / "x"
    root.mkdir(parents=True)
    (root / "board.db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    assert feed_standings(tmp_path) == []
    with pytest.raises(StorageError, match="board"):
        Board(root)


# Replays


async def replayed(archive: Archive, **options: object) -> tuple[list[Event], Replay, list[float]]:
    """Replays what `test-feed` recorded; returns what a subscriber got, and the pauses."""
    moment, slept = Moment(), list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    about = About("replay", "a replay", "none", "replay", lands=False)
    feed = await open_feed(archive, about, now_ns=moment)
    events = feed.pipeline.subscribe("test")
    replay = Replay(
        archive.root / FEEDS / "test-feed",
        feed.pipeline,
        moment,
        sleep=sleep,
        monotonic=lambda: sum(slept),
        **options,  # pyright: ignore[reportArgumentType]
    )
    await feed.run(replay)
    return await events.receive_all(100), replay, slept


async def test_a_recording_is_replayed_in_its_order_at_its_pace_times_the_speed(archive: Archive) -> None:
    ticks = [trade(1), trade(2, 4 * SECOND_NS), bar(0), trade(3, 62 * SECOND_NS), trade(4, 3600 * SECOND_NS)]
    await fed(archive, *ticks, about=About("test-feed", "", "", make=("5m",)))
    events, replay, slept = await replayed(archive, speed=2.0)
    assert events == ticks  # the bar that was made is not replayed: it would be made again
    assert slept == pytest.approx([2.0, 5.0, 1.0, 5.0], abs=1e-3)  # pauses are five seconds at most
    assert replay.ticks == 5
    assert replay.heard_ns == ticks[-1].ts_recv_ns
    archive_of_test = archive.instruments()
    assert [one.symbol for one in archive_of_test] == ["AAPL"]


async def test_a_replay_as_fast_as_possible_never_pauses_and_keeps_to_its_span(archive: Archive) -> None:
    await fed(archive, *(trade(serial, serial * SECOND_NS) for serial in range(10)))
    span = {"start_ns": FIRST_NS + 2 * SECOND_NS, "end_ns": FIRST_NS + 5 * SECOND_NS}
    events, _, slept = await replayed(archive, speed=0.0, **span)
    assert [one.trade_id for one in events if isinstance(one, Trade)] == ["2", "3", "4"]
    assert slept == []
    with pytest.raises(DataError, match="no tick of that span"):
        await replayed(archive, start_ns=FIRST_NS + 100 * SECOND_NS)
    with pytest.raises(DataError, match="no tick"):
        await replayed(archive, symbols=["AAPL"], end_ns=FIRST_NS)
    with pytest.raises(InputError, match="speed"):
        Replay(archive.root, Pipeline(open_journal(archive.root / "x")), Moment(), speed=-1)


async def test_a_replay_records_the_same_ticks_again(archive: Archive) -> None:
    await fed(archive, trade(1), bar(0))
    await replayed(archive, speed=0.0)
    roots = [archive.root / FEEDS / name for name in ("test-feed", "replay")]
    first, second = (recorded_ticks(root, 0) for root in roots)
    assert first == second
