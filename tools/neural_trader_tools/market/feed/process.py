"""The process of a feed: source -> pipeline -> journal, board and archive, until it is told to end.

    feed = await open_feed(archive, about, now_ns=time.time_ns)
    await feed.run(link)        # until cancelled: then what waits is written, landed and shown

While it runs, recorded ticks are compacted in the background, bars land in the archive some seconds after
they arrive, and the board shows prices and standing to other processes. Killed at any instant it loses
nothing that was acknowledged; the next process takes up where it stopped.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import anyio
import anyio.to_thread
import structlog

from neural_trader_governance.errors import NeuralTraderError
from neural_trader_governance.terms.market import interval_duration
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.feed.bars import BarBuilder
from neural_trader_tools.market.feed.board import (
    FEEDS,
    Board,
    FeedStanding,
    FeedState,
    LastPrice,
    moment_of,
    standing_of,
)
from neural_trader_tools.market.feed.channels import Channel
from neural_trader_tools.market.feed.compaction import compact, open_journal
from neural_trader_tools.market.feed.lander import Lander
from neural_trader_tools.market.feed.landing import BARS_WAITING_MAX, Landing
from neural_trader_tools.market.feed.last import LastValues
from neural_trader_tools.market.feed.pipeline import Pipeline
from neural_trader_tools.market.feed.recorded import recorded_ticks
from neural_trader_tools.market.feed.rules import Rules
from neural_trader_tools.market.feed.source import About, Source
from neural_trader_tools.market.feed.ticks import SECOND_NS, BarTick, Event

SHOW_S = 0.5
COMPACT_S = 60.0
RECALL_NS = 300 * SECOND_NS
MINUTE_NS = 60 * SECOND_NS

_log = structlog.get_logger("neural_trader.market.feed")

Tell = Callable[[FeedStanding], object]
Publish = Callable[[Sequence[Event]], Awaitable[None]]


async def open_feed(
    archive: Archive,
    about: About,
    *,
    now_ns: Callable[[], int] = time.time_ns,
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
) -> "Feed":
    """Opens a feed's records, and recalls where an earlier process stopped.

    Args:
        archive: In whose folder the feed has its own, `feeds/NAME`.
        about: The feed.
        now_ns: Its clock.
        sleep: Waits so many seconds.

    Raises:
        StorageError: the folder cannot be written, or another process runs this feed.
        IntegrityError: its records do not parse.
        InputError: an interval cannot be made of trades.
    """
    root = archive.root / FEEDS / about.name
    builders = [BarBuilder(each, about.hours) for each in about.make]
    before = await anyio.to_thread.run_sync(standing_of, root)
    journal = await anyio.to_thread.run_sync(open_journal, root)
    try:
        pipeline = Pipeline(journal, rules=Rules(hours=about.hours), bars=builders, now_ns=now_ns)
        if before is not None and before.heard_ns:
            lengths = [interval_duration(each) // timedelta(microseconds=1) * 1_000 for each in about.make]
            since_ns = min(before.heard_ns, before.missing_from_ns or before.heard_ns)
            since_ns -= max([RECALL_NS, *lengths])
            pipeline.recall(await anyio.to_thread.run_sync(recorded_ticks, root, since_ns))
        return Feed(archive, about, root, pipeline, before, now_ns, sleep)
    except BaseException:
        journal.close()
        raise


class Feed:
    """One feed; `open_feed` makes it."""

    def __init__(
        self,
        archive: Archive,
        about: About,
        root: Path,
        pipeline: Pipeline,
        before: FeedStanding | None,
        now_ns: Callable[[], int],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.about = about
        self.root = root
        self.pipeline = pipeline
        self.heard_ns = before.heard_ns if before is not None else 0
        """When an earlier process last heard this feed."""
        self.missing_from_ns = (before.missing_from_ns or before.heard_ns) if before is not None else 0
        """From where on an earlier process left something missing."""
        self._now_ns = now_ns
        self._sleep = sleep
        self._board = Board(root)
        landed_ns = before.landed_ns if before is not None else 0
        self._lander = Lander(archive, about.name, about.source, about.licence, landed_ns)
        self._landing: Landing | None = None
        if about.lands:
            bars = pipeline.subscribe("archive", kinds=[BarTick], capacity=BARS_WAITING_MAX)
            self._landing = Landing(self._lander, bars, root, sleep)
        self._started: datetime = moment_of(now_ns())
        self._rate = (0, time.monotonic(), 0.0)
        self._problem = ""

    async def run(
        self, source: Source, *, tell: Tell | None = None, publish: Publish | None = None
    ) -> FeedStanding:
        """Runs until the source has no more, or this is cancelled; either way nothing that came is lost.

        Args:
            source: What brings data into `pipeline`.
            tell: Is told how the feed stands, some times a second.
            publish: Gets every event for other processes; one that is slow loses the oldest.

        Returns:
            How it stood at the end.

        Raises:
            NeuralTraderError: the source cannot go on, or the disk refuses the rest.
        """
        failure: NeuralTraderError | None = None
        try:
            async with anyio.create_task_group() as tasks:
                for task in (
                    self.pipeline.run,
                    self._compact,
                    *([self._landing.run] if self._landing else []),
                ):
                    tasks.start_soon(task)
                tasks.start_soon(self._show, source, tell)
                if publish is not None:
                    tasks.start_soon(self._publish, self.pipeline.subscribe("bus"), publish)
                try:
                    await source.run()
                except NeuralTraderError as error:
                    failure = error
                tasks.cancel_scope.cancel()
        except BaseException:  # cancelled, above all
            with anyio.CancelScope(shield=True):
                await self._close(source, failure)
            raise
        last = self.standing(source)
        with anyio.CancelScope(shield=True):
            last = await self._close(source, failure)
        if failure is not None:
            raise failure
        return last

    def standing(self, source: Source, state: FeedState | None = None) -> FeedStanding:
        """Returns how the feed stands."""
        report = self.pipeline.report()
        heard_ns = max(source.heard_ns, self.heard_ns)
        landing = self._landing.problem if self._landing is not None else ""
        problem = source.problem or report.problem or landing or self._problem
        return FeedStanding(
            feed=self.about.name,
            kind=self.about.kind,
            state=state or source.state,
            started_time=self._started,
            written_time=moment_of(time.time_ns() if self.about.kind == "replay" else self._now_ns()),
            last_tick_time=moment_of(heard_ns) if heard_ns else None,
            events=report.events,
            acknowledged=report.acknowledged,
            events_per_s=self._measured(report.events),
            bars_landed=self._lander.bars,
            gaps=report.gaps,
            connections=source.connections,
            dropped=report.dropped,
            quarantined=report.quarantined,
            problem=problem[:500],
            heard_ns=heard_ns,
            missing_from_ns=source.missing_from_ns,
            landed_ns=self._lander.landed_ns,
        )

    def _measured(self, events: int) -> float:
        """Returns events per second, measured over a second at least."""
        before, at, rate = self._rate
        elapsed = time.monotonic() - at
        if elapsed >= 1.0:
            rate = (events - before) / elapsed
            self._rate = (events, time.monotonic(), rate)
        return round(rate, 1)

    async def _show(self, source: Source, tell: Tell | None) -> None:
        while True:
            await self._write(self.standing(source))
            if tell is not None:
                tell(self.standing(source))
            await self._sleep(SHOW_S)

    async def _write(self, standing: FeedStanding) -> None:
        prices = _prices(self.pipeline.last)
        try:
            await anyio.to_thread.run_sync(self._board.write, standing, prices)
        except NeuralTraderError as error:
            self._problem = str(error)

    async def _compact(self) -> None:
        while True:
            try:
                await anyio.to_thread.run_sync(compact, self.root)
                self._problem = ""
            except NeuralTraderError as error:  # every row is where it was
                self._problem = str(error)
                _log.warning("feed_compaction_failed", feed=self.about.name, error=str(error))
            await self._sleep(COMPACT_S)

    async def _publish(self, channel: Channel[Event], publish: Publish) -> None:
        while True:
            await publish(await channel.receive_all())

    async def _close(self, source: Source, failure: NeuralTraderError | None) -> FeedStanding:
        """Writes, lands and shows what waits.

        Raises:
            StorageError: the disk refuses the rest.
        """
        try:
            await self.pipeline.close()
        except NeuralTraderError as error:
            failure = failure or error
            raise
        finally:
            if self._landing is not None:
                await self._landing.finish()
            last = self.standing(source, "ended" if failure is None else "failed")
            if failure is not None:
                last = last.model_copy(update={"problem": str(failure)[:500]})
            await self._write(last)
            self._board.close()
        return last


def _prices(last: LastValues) -> list[LastPrice]:
    """Returns the newest prices of the symbols that something was said of since the last call."""
    prices: list[LastPrice] = []
    for symbol in last.take_changed():
        trade, quote, bar = last.trade(symbol), last.quote(symbol), last.bar(symbol, "1m")
        made = [(trade.ts_event_ns, trade.price, trade.ts_recv_ns)] if trade else []
        if bar is not None:
            made.append((bar.ts_event_ns + MINUTE_NS, bar.close, bar.ts_recv_ns))
        if not made:
            continue
        price_ns, price, recv_ns = max(made)
        bid = quote.bid if quote is not None and quote.bid > 0 else None
        ask = quote.ask if quote is not None and quote.ask > 0 else None
        prices.append(
            LastPrice(symbol, price, price_ns, bid, ask, quote.ts_event_ns if quote else 0, recv_ns)
        )
    return prices
