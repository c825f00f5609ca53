"""The live path: frame -> decode -> rules -> last values -> journal -> bars -> subscribers.

    pipeline = Pipeline(open_journal(root), bars=[BarBuilder("1m", hours)])
    pipeline.recall(recorded_ticks(root, some_minutes_ago_ns))
    prices = pipeline.subscribe("strategy", policy="drop_oldest", symbols={"AAPL"})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pipeline.run)              # commits, and ends bars whose time is over
        async for frame in socket:
            await pipeline.receive(frame, decode)   # decode is the provider's: (frame, ts_recv_ns) -> events

What cannot be decoded and what a rule refuses goes to the quarantine with its reason, in the same journal and
under the same acknowledgement. Subscribers get events at once, before they are on disk.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import anyio
import msgspec

from neural_trader_governance.errors import NeuralTraderError
from neural_trader_tools.market.feed.bars import BarBuilder
from neural_trader_tools.market.feed.channels import MARKET_CAPACITY, Channel, Policy
from neural_trader_tools.market.feed.commits import COMMIT_INTERVAL_S, COMMIT_ROWS, Commits
from neural_trader_tools.market.feed.journal import Journal
from neural_trader_tools.market.feed.last import LastValues
from neural_trader_tools.market.feed.report import FeedReport
from neural_trader_tools.market.feed.rules import Rules
from neural_trader_tools.market.feed.segments import CONTENT_BYTES_MAX, Quarantined, quarantined
from neural_trader_tools.market.feed.subscriptions import EventType, Subscriptions
from neural_trader_tools.market.feed.ticks import Amendment, BarTick, Event, Gap, Quote, Tick, Trade
from neural_trader_tools.market.feed.verdicts import PASS

FRAME_BYTES_MAX = 16 * 2**20

Decode = Callable[[bytes, int], Iterable[Event | Quarantined]]
"""Turns a frame and the time of its receipt into events, and what of it cannot be read. What it raises over a
bad frame (`DataError`, msgspec errors, any ValueError, KeyError or TypeError) sends it to quarantine."""

_UNDECODABLE = (NeuralTraderError, msgspec.MsgspecError, ValueError, KeyError, TypeError, RecursionError)


class Pipeline:
    """Takes frames or events in, one call after the other, on one event loop.

    Args:
        journal: Where everything is recorded; the pipeline commits and closes it.
        rules: The data-quality rules; the defaults where None.
        bars: Builders of bars, fed with every trade that the rules let through.
        now_ns: The clock that says when something was received.
        frame_bytes_max: Larger frames are refused unread.
        commit_rows: So many events waiting are committed at once, without waiting for the interval.
        commit_interval_s: How long an event waits for its commit at most, while `run` runs.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        rules: Rules | None = None,
        bars: Sequence[BarBuilder] = (),
        now_ns: Callable[[], int] = time.time_ns,
        frame_bytes_max: int = FRAME_BYTES_MAX,
        commit_rows: int = COMMIT_ROWS,
        commit_interval_s: float = COMMIT_INTERVAL_S,
    ) -> None:
        self.rules = rules or Rules()
        self.last = LastValues()
        self._journal = journal
        self._bars = tuple(bars)
        self._now_ns = now_ns
        self._frame_bytes_max = frame_bytes_max
        self._commits = Commits(journal, commit_rows, commit_interval_s)
        self._subscriptions = Subscriptions()
        self._receiving = anyio.Lock()
        self._frames = self._frames_refused = self._events = self._gaps = self._amendments = 0
        self._messages_refused = 0
        self._bars_made: Counter[str] = Counter()

    def recall(self, ticks: Sequence[Tick]) -> None:
        """Takes up where a former process stopped: repeats of these ticks are dropped, unfinished bars go on.

        Args:
            ticks: What `recorded_ticks` returns. They are not recorded again; a bar that the former process
                should have made of them and that is not among them is.
        """
        known = {
            (tick.symbol, tick.interval, tick.ts_event_ns) for tick in ticks if isinstance(tick, BarTick)
        }
        for tick in ticks:
            self.rules.check(tick)
            self.last.update(tick)
            if isinstance(tick, Trade):
                for builder in self._bars:
                    bar = builder.add(tick)
                    if bar is not None and (bar.symbol, bar.interval, bar.ts_event_ns) not in known:
                        self._made(bar)
        self.rules.forget_counts()

    def subscribe(
        self,
        name: str,
        *,
        kinds: Collection[EventType] = (),
        symbols: Collection[str] = (),
        capacity: int = MARKET_CAPACITY,
        policy: Policy = "drop_oldest",
        sample_every: int = 10,
    ) -> Channel[Event]:
        """Returns a channel that gets every event from now on; closing it ends the subscription.

        Args:
            name: Says in reports whose channel it is.
            kinds: `Trade`, `Quote`, `BarTick`, `Gap`; none means all.
            symbols: None means all.
            capacity: Of the channel.
            policy: With `block`, a slow subscriber slows the feed down: for those that must miss nothing.
            sample_every: See `Channel`.

        Raises:
            InputError: capacity or policy is none.
        """
        channel = Channel[Event](name, capacity, policy, sample_every=sample_every)
        self._subscriptions.add(channel, kinds, symbols)
        return channel

    async def receive(self, frame: bytes, decode: Decode) -> int:
        """Takes in one frame; returns how many events were in it, whatever the rules say of them.

        Raises:
            StorageError: too many events wait for a disk that refuses them; the frame was not taken.
        """
        self._journal.check_room()
        self._frames += 1
        recv_ns = self._now_ns()
        if len(frame) > self._frame_bytes_max:
            self._refuse(frame, f"frame of {len(frame)} bytes, above {self._frame_bytes_max}", recv_ns)
            return 0
        try:
            events = list(decode(frame, recv_ns))
        except _UNDECODABLE as error:
            self._refuse(frame, f"undecodable: {error}"[:400], recv_ns)
            return 0
        refused = self._messages_refused
        await self.take(events)
        return len(events) - (self._messages_refused - refused)

    def refuse(self, reason: str) -> None:
        """Records that a frame was refused before it was read, such as one that is too long."""
        self._frames += 1
        self._refuse(b"", reason, self._now_ns())

    async def take(self, events: Sequence[Event | Quarantined]) -> None:
        """Takes in events that are decoded already, such as those that fill a gap.

        Raises:
            StorageError: too many events wait for a disk that refuses them; none was taken.
        """
        async with self._receiving:  # the order in which subscribers see events is that of the journal
            self._journal.check_room()
            accepted = self._accepted(events)
            self._commits.notice()
            await self._subscriptions.publish(accepted)

    async def advance(self, now_ns: int) -> None:
        """Ends the bars whose time is over; `run` does it all the time."""
        over = [bar for builder in self._bars for bar in builder.advance(now_ns)]
        if over:
            async with self._receiving:
                for bar in over:
                    self._made(bar)
                await self._subscriptions.publish(over)

    async def commit(self) -> int:
        """Writes what waits to disk; returns how many events are acknowledged in all.

        Raises:
            StorageError: the disk refused; what was not acknowledged waits for the next commit.
        """
        return await self._commits.commit()

    async def run(self) -> None:
        """Commits, and ends bars, until it is cancelled. A disk that refuses is reported and tried again."""
        async with (
            anyio.create_task_group() as tasks
        ):  # apart: a subscriber that blocks must not hold commits up
            tasks.start_soon(self._commits.run)
            tasks.start_soon(self._run_bars)

    async def close(self) -> None:
        """Commits the rest, seals the journal and ends every subscription.

        Raises:
            StorageError: the disk refused the rest.
        """
        self._subscriptions.close()
        await self._commits.close()

    def report(self) -> FeedReport:
        """Returns the counts as they stand."""
        return FeedReport(
            frames=self._frames,
            frames_refused=self._frames_refused,
            messages_refused=self._messages_refused,
            events=self._events,
            appended=self._journal.appended,
            acknowledged=sum(self._journal.acknowledged.values()),
            actions={**self.rules.actions},
            reasons=dict(self.rules.reasons),
            bars=dict(self._bars_made),
            trades_late=sum(builder.late for builder in self._bars),
            trades_outside=sum(builder.outside for builder in self._bars),
            channels=self._subscriptions.reports(),
            amendments=self._amendments,
            gaps=self._gaps,
            problem=self._commits.problem,
        )

    async def _run_bars(self) -> None:
        while True:
            await anyio.sleep(self._commits.interval_s)
            await self.advance(self._now_ns())

    def _accepted(self, events: Sequence[Event | Quarantined]) -> list[Event]:
        """Judges and records events; returns those for subscribers, the bars that they complete included."""
        accepted: list[Event] = []
        check, update, append = self.rules.check, self.last.update, self._journal.append
        builders = self._bars
        self._events += len(events)
        event: Any  # by `kind` below; `isinstance` of three types would cost a third of a microsecond
        for event in events:
            kind: type[object] = type(event)  # pyright: ignore[reportUnknownVariableType]
            if kind is not Quote and kind is not Trade and kind is not BarTick:
                self._beside(event, accepted)
                continue
            verdict = check(event)
            if verdict is PASS:
                append(event)
            elif verdict.action == "flag":
                append(event, ",".join(verdict.reasons))
            else:
                if verdict.action == "quarantine":
                    append(quarantined(event, verdict.reasons[0], event.ts_recv_ns))
                continue
            update(event)
            accepted.append(event)
            if kind is Trade:
                for builder in builders:
                    bar = builder.add(event)
                    if bar is not None:
                        self._made(bar)
                        accepted.append(bar)
        return accepted

    def _beside(self, event: Gap | Amendment | Quarantined, accepted: list[Event]) -> None:
        """Records what is no tick, and so is not judged."""
        self._journal.append(event)
        if isinstance(event, Quarantined):
            self._messages_refused += 1
            return
        if isinstance(event, Gap):
            self._gaps += 1
        else:  # bars that were made of the trade stay as they are
            self._amendments += 1
            self.last.amend(event)
        accepted.append(event)

    def _made(self, bar: BarTick) -> None:
        self._bars_made[bar.interval] += 1
        self._journal.append(bar, "made")
        self.last.update(bar)

    def _refuse(self, frame: bytes, reason: str, recv_ns: int) -> None:
        self._frames_refused += 1
        kept = bytes(frame[:CONTENT_BYTES_MAX])
        if len(frame) > len(kept):
            reason += f"; the first {len(kept)} bytes of sha256 {hashlib.sha256(frame).hexdigest()}"
        self._journal.append(Quarantined("", reason, kept, recv_ns, recv_ns))
