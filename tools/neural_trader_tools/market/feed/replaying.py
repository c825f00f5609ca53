"""Replaying: what a feed recorded goes through a pipeline again: in the order and at the pace of its receipt.

At speed 1 it takes as long as it took, at 10 a tenth of that, at 0 no longer than the machine needs. Nights
and other pauses are cut to five seconds. The clock of a replay is that of the recording.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

import anyio
import anyio.to_thread

from neural_trader_governance.errors import DataError, InputError, StorageError
from neural_trader_tools.market.feed.board import FeedState
from neural_trader_tools.market.feed.pipeline import Pipeline
from neural_trader_tools.market.feed.recorded import recorded_span, recorded_ticks
from neural_trader_tools.market.feed.ticks import SECOND_NS, Tick

WINDOW_NS = 900 * SECOND_NS
"""So much of a recording is in memory at a time."""
PAUSE_S_MAX = 5.0
BATCH_TICKS = 1_000
DISK_WAIT_S = 0.5


class Moment:
    """The clock of a replay: it stands where the recording does."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        """Returns where it stands."""
        return self.ns


class Replay:
    """Brings a recording into a pipeline; implements `process.Source`.

    Args:
        folder: A feed's, with its journal and its ticks.
        pipeline: Whose clock is `moment`.
        moment: The replay's clock.
        speed: How many times faster than it was; 0 is as fast as possible.
        start_ns: First event_time, inclusive; None is the first there is.
        end_ns: Exclusive; None is after the last.
        symbols: Only these; none means all.
        sleep: Waits so many seconds.
        monotonic: Seconds that never go back.
    """

    connections = 1
    missing_from_ns = 0

    def __init__(
        self,
        folder: Path,
        pipeline: Pipeline,
        moment: Moment,
        *,
        speed: float = 1.0,
        start_ns: int | None = None,
        end_ns: int | None = None,
        symbols: Sequence[str] = (),
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 <= speed <= 1e9:
            raise InputError(
                "invalid_speed", f"{speed:g} is no speed", "give 1, 10, or 0 for no pauses at all"
            )
        self.state: FeedState = "live"
        self.problem = ""
        self.ticks = 0
        self._folder = folder
        self._pipeline = pipeline
        self._moment = moment
        self._speed = speed
        self._bounds = (start_ns, end_ns)
        self._symbols = tuple(symbols) or None
        self._sleep = sleep
        self._monotonic = monotonic

    @property
    def heard_ns(self) -> int:
        """Where the recording stands."""
        return self._moment.ns

    async def run(self) -> None:
        """Replays to the end.

        Raises:
            DataError: nothing was recorded in that span.
        """
        span = await anyio.to_thread.run_sync(recorded_span, self._folder, *self._bounds)
        if span is None:
            raise DataError(
                "nothing_recorded",
                f"{self._folder} holds no tick of that span",
                "give the folder of a feed, with its journal and ticks, and a span that it was running in",
            )
        first_ns, last_ns = span
        due_s = self._monotonic()
        before_ns = 0
        for start_ns in range(first_ns, last_ns + 1, WINDOW_NS):
            end_ns = min(start_ns + WINDOW_NS, last_ns + 1)
            ticks = await anyio.to_thread.run_sync(
                recorded_ticks, self._folder, start_ns, end_ns, self._symbols
            )
            for batch in _batches(ticks):
                recv_ns = batch[-1].ts_recv_ns
                if self._speed and before_ns:
                    due_s += min(max(0, recv_ns - before_ns) / SECOND_NS / self._speed, PAUSE_S_MAX)
                    if (early_s := due_s - self._monotonic()) > 0:
                        await self._sleep(early_s)
                before_ns = max(before_ns, recv_ns)
                await self._take(batch)
        await self._pipeline.advance(self._moment.ns)

    async def _take(self, batch: Sequence[Tick]) -> None:
        self._moment.ns = max(self._moment.ns, batch[-1].ts_recv_ns)
        while True:
            try:
                await self._pipeline.take(batch)
                break
            except StorageError as error:
                self.problem = str(error)
                await self._sleep(DISK_WAIT_S)
        self.problem = ""
        self.ticks += len(batch)
        await anyio.lowlevel.checkpoint()


def _batches(ticks: Sequence[Tick]) -> Iterable[Sequence[Tick]]:
    """Yields ticks that were received within the same hundredth of a second, a thousand at most."""
    batch: list[Tick] = []
    for tick in ticks:
        if batch and (len(batch) >= BATCH_TICKS or tick.ts_recv_ns - batch[0].ts_recv_ns > 10_000_000):
            yield batch
            batch = []
        batch.append(tick)
    if batch:
        yield batch
