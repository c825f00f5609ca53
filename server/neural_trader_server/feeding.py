"""Feeding: a desk's live feed or replay in this process, until a signal, a time or its end."""

import gc
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import structlog

from neural_trader_governance.audit.entries import EntryType
from neural_trader_governance.errors import DataError, InputError, StorageError
from neural_trader_governance.terms.clocks import parse_time, to_epoch_us
from neural_trader_tools.market.feed.board import FEEDS, FeedStanding, feed_standings, moment_of, standing_of

if TYPE_CHECKING:
    from neural_trader_server.app import Services
    from neural_trader_tools.bus.port import Bus
    from neural_trader_tools.market.feed.process import Feed
    from neural_trader_tools.market.feed.source import Source
    from neural_trader_tools.market.providers.stream import Channel

REPLAY = "replay"
CALENDAR = "XNYS"
CALENDAR_DAYS = 800
"""Sessions are known so far ahead: how long a feed may run."""
SYMBOLS_ON_RECORD = 50
SWITCH_S = 0.001
"""The journal's thread may hold a tick up for so long, not for Python's five milliseconds."""

_log = structlog.get_logger(__name__)

Tell = Callable[[FeedStanding], object]


async def feed_live(
    services: "Services",
    name: str,
    symbols: Sequence[str],
    *,
    channels: "Sequence[Channel]",
    make: Sequence[str],
    mute_after_s: float,
    for_s: float | None,
    tell: Tell,
) -> FeedStanding:
    """Listens to a service until a signal, or for a time; returns how the feed stood at its end.

    Args:
        services: An open desk.
        name: `alpaca` or `massive`.
        symbols: Which; `*` is every one.
        channels: Of trades, quotes and bars.
        make: Intervals of bars that are made of the trades.
        mute_after_s: Silence in session that has the feed connect again.
        for_s: How long; None is until a signal.
        tell: Is told how the feed stands, some times a second.

    Raises:
        NeuralTraderError: see `process.Feed.run`.
    """
    from neural_trader_server.market_services import open_provider, open_stream
    from neural_trader_tools.market.feed.backfill import Backfill
    from neural_trader_tools.market.feed.hours import session_hours
    from neural_trader_tools.market.feed.link import Link
    from neural_trader_tools.market.feed.mute import MuteWatch
    from neural_trader_tools.market.feed.process import open_feed
    from neural_trader_tools.market.feed.source import About
    from neural_trader_tools.market.providers.stream import StreamRequest

    if "bars" in channels and "1m" in make:
        raise InputError(
            "bars_twice",
            "minute bars come from the service, and would be made of its trades as well",
            "leave --make 1m out, or leave bars out of the channels",
        )
    if make and "trades" not in channels:
        raise InputError("no_trades", "bars are made of trades", "add --channel trades")
    where = (services.settings, services.home.config, services.archive.root)
    stream, standing = open_stream(name, *where)
    request = StreamRequest(tuple(dict.fromkeys(symbols)), tuple(channels))
    stream.check(request)
    history, history_standing = open_provider(name, *where)
    try:
        hours = await anyio.to_thread.run_sync(session_hours, CALENDAR, services.clock.now(), CALENDAR_DAYS)
        feed = await open_feed(
            services.archive,
            About(stream.dataset_id, stream.source, stream.licence, make=tuple(make), hours=hours),
        )
        link = Link(
            stream,
            request,
            feed.pipeline,
            breaker=standing.breaker,
            backfill=Backfill(history, request, feed.pipeline, now_ns=time.time_ns, sleep=anyio.sleep),
            mute=MuteWatch(mute_after_s, hours),
            heard_ns=feed.missing_from_ns,
            now_ns=time.time_ns,
            on_change=standing.changed,
        )
        facts: dict[str, object] = {
            "symbols": list(request.symbols[:SYMBOLS_ON_RECORD]),
            "channels": list(channels),
        }
        return await _recorded(services, feed, link, facts, for_s, tell)
    finally:
        with anyio.CancelScope(shield=True):
            await history.aclose()
            await history_standing.close()
            await standing.close()


async def feed_replay(
    services: "Services",
    recording: str,
    *,
    symbols: Sequence[str],
    speed: float,
    start: str,
    end: str,
    make: Sequence[str],
    lands: bool,
    for_s: float | None,
    tell: Tell,
) -> FeedStanding:
    """Replays a recording; returns how the feed stood at its end.

    Args:
        services: An open desk.
        recording: A feed of this archive, or the folder of one; empty where there is only one.
        symbols: Only these; none means all.
        speed: How many times faster; 0 is as fast as possible.
        start: First event_time, inclusive; empty is the first there is.
        end: Exclusive; empty is after the last.
        make: Intervals of bars that are made of the trades.
        lands: Bars go into the archive.
        for_s: How long at most; None is to the end.
        tell: Is told how the feed stands, some times a second.

    Raises:
        NeuralTraderError: see `process.Feed.run`.
    """
    from neural_trader_tools.market.feed.hours import session_hours
    from neural_trader_tools.market.feed.process import open_feed
    from neural_trader_tools.market.feed.recorded import recorded_span
    from neural_trader_tools.market.feed.replaying import Moment, Replay
    from neural_trader_tools.market.feed.source import About

    archive = services.archive
    folder = _folder(archive.root, recording)
    bounds = (_ns(start), _ns(end))
    moment = Moment()
    hours = None
    if make:
        span = await anyio.to_thread.run_sync(recorded_span, folder, *bounds)
        first = services.clock.now() if span is None else moment_of(span[0])
        hours = await anyio.to_thread.run_sync(session_hours, CALENDAR, first, CALENDAR_DAYS)
    await anyio.to_thread.run_sync(_emptied, archive.root / FEEDS / REPLAY, services.clock.now())
    about = About(
        REPLAY,
        f"replay of {folder.name}",
        "as the recording's",
        kind="replay",
        make=tuple(make),
        hours=hours,
        lands=lands,
    )
    feed = await open_feed(archive, about, now_ns=moment)
    replay = Replay(
        folder, feed.pipeline, moment, speed=speed, start_ns=bounds[0], end_ns=bounds[1], symbols=symbols
    )
    facts: dict[str, object] = {"recording": folder.name, "speed": f"{speed:g}", "lands": lands}
    return await _recorded(services, feed, replay, facts, for_s, tell)


async def _recorded(
    services: "Services",
    feed: "Feed",
    source: "Source",
    facts: dict[str, object],
    for_s: float | None,
    tell: Tell,
) -> FeedStanding:
    """Runs a feed, with its beginning and its end on the record, and its events on the bus."""
    from neural_trader_tools.bus.feed import FeedPublisher

    bus = await _bus_of(services, feed)
    what = services.settings.bus_market
    publish = None if bus is None or what == "none" else FeedPublisher(bus, what)
    named: dict[str, object] = {"feed": feed.about.name, "kind": feed.about.kind}
    await anyio.to_thread.run_sync(_on_record, services, {**named, **facts})

    async def run() -> None:
        await feed.run(source, tell=tell, publish=publish)

    before_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()  # what is loaded by now stays: looking through it all again would stop the feed for 0.1 s
    try:
        with anyio.move_on_after(for_s):
            await _until_signal(run)
    finally:
        gc.unfreeze()
        sys.setswitchinterval(before_s)
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(_end_on_record, services, named, feed.root)
            if bus is not None:
                await bus.aclose()
    last = standing_of(feed.root)
    if last is None:
        raise StorageError("feed_board_unwritable", "the feed left no standing", "check the archive's disk")
    return last


async def _bus_of(services: "Services", feed: "Feed") -> "Bus | None":
    """Returns where a feed's events are published; a replay's are not: somebody might take them for live.

    Raises:
        ConfigurationError: the settings name a bus that cannot be.
    """
    from neural_trader_server.bus_services import make_bus

    if feed.about.kind == "replay" or services.settings.bus_market == "none":
        return None
    try:
        return await anyio.to_thread.run_sync(make_bus, services.home, services.settings)
    except StorageError as error:  # the feed's own record is what counts
        _log.warning("bus_left_out", error=str(error))
        return None


async def _until_signal(run: Callable[[], Awaitable[None]]) -> None:
    """Runs something until it ends, or SIGINT, SIGTERM or SIGHUP cancels it; a second one ends us at once."""
    async with anyio.create_task_group() as tasks:

        async def listen() -> None:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
                async for _ in signals:
                    tasks.cancel_scope.cancel()
                    return

        tasks.start_soon(listen)
        await run()
        tasks.cancel_scope.cancel()


def _on_record(services: "Services", payload: dict[str, object]) -> None:
    services.record(services.person, EntryType.DATA_IMPORT, payload=payload)


def _end_on_record(services: "Services", named: dict[str, object], root: Path) -> None:
    if (last := standing_of(root)) is not None:
        counts = {"events": last.events, "acknowledged": last.acknowledged, "gaps": last.gaps}
        _on_record(services, {**named, "state": last.state, **counts})


def _ns(text: str) -> int | None:
    return to_epoch_us(parse_time(text)) * 1_000 if text else None


def _folder(archive_root: Path, recording: str) -> Path:
    """Returns the folder of a recording.

    Raises:
        DataError: there is none of that name.
    """
    names = [one.feed for one in feed_standings(archive_root) if one.kind == "live"]
    if not recording and len(names) == 1:
        recording = names[0]
    folder = archive_root / FEEDS / recording if recording in names else Path(recording)
    if not recording or not ((folder / "journal").is_dir() or (folder / "ticks.json").is_file()):
        raise DataError(
            "no_recording",
            f"{recording!r:.80} is no recording" if recording else "no recording is named",
            f"give --from one of {', '.join(names)}, or a feed's folder"
            if names
            else "run `neural-trader feed run alpaca --symbol AAPL` first, or give --from a feed's folder",
        )
    if folder.resolve() == (archive_root / FEEDS / REPLAY).resolve():
        raise DataError("no_recording", "a replay's own folder is replaced by the replay", "copy it first")
    return folder


def _emptied(folder: Path, now: datetime) -> None:
    """Removes what the last replay left.

    Raises:
        StorageError: a replay is running.
    """
    standing = standing_of(folder)
    if standing is not None and standing.is_running(now):
        raise StorageError("replay_running", "a replay runs in another process", "wait for it, or end it")
    shutil.rmtree(folder, ignore_errors=True)
