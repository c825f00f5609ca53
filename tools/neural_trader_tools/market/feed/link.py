"""The link: keeps one stream coming, over connections that end.

    connect, sign in, subscribe ──> read frames into the pipeline ──> the stream ends, or is mute
      ^         (beside it: the gap since the last connection is backfilled)          │
      └── pause: growing, jittered; longer while the provider's circuit is open <─────┘

A refusal that no other try would change (a wrong key, a plan without the feed) ends the feed.
"""

import random
from collections.abc import Awaitable, Callable
from typing import Literal

import anyio
import structlog

from neural_trader_governance.errors import ConfigurationError, StorageError
from neural_trader_tools.market.feed.backfill import Backfill
from neural_trader_tools.market.feed.mute import MuteWatch
from neural_trader_tools.market.feed.pipeline import Pipeline
from neural_trader_tools.market.feed.ticks import SECOND_NS
from neural_trader_tools.market.providers.breaker import CircuitBreaker, CircuitOpenError
from neural_trader_tools.market.providers.stream import (
    Stream,
    StreamEndedError,
    StreamProvider,
    StreamRequest,
    raise_for,
)

LinkState = Literal["connecting", "live", "waiting"]
PAUSE_S = 1.0
PAUSE_S_MAX = 60.0
CHECK_S = 1.0
DISK_WAIT_S = 0.5

_log = structlog.get_logger("neural_trader.market.feed")


class Link:
    """Reads one provider's stream into a pipeline, for ever.

    Args:
        provider: Where live data come from.
        request: What is subscribed to.
        pipeline: Where frames go.
        breaker: Of the provider's stream.
        backfill: Fills what was missed.
        mute: Says when silence is too long.
        heard_ns: When an earlier process last heard this feed; 0 where none did.
        now_ns: The feed's clock.
        sleep: Waits so many seconds.
        chance: Makes the jitter.
        on_change: Called after each connection and failure: what stands may be written down.
    """

    def __init__(
        self,
        provider: StreamProvider,
        request: StreamRequest,
        pipeline: Pipeline,
        *,
        breaker: CircuitBreaker,
        backfill: Backfill,
        mute: MuteWatch,
        heard_ns: int = 0,
        now_ns: Callable[[], int],
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        chance: random.Random | None = None,
        on_change: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.state: LinkState = "connecting"
        self.heard_ns = heard_ns
        """When market data last came."""
        self.connections = 0
        self.problem = ""
        """Why the last connection ended; empty while one stands."""
        self._provider = provider
        self._request = request
        self._pipeline = pipeline
        self._breaker = breaker
        self._backfill = backfill
        self._mute = mute
        self._now_ns = now_ns
        self._sleep = sleep
        self._chance = chance or random.Random()  # noqa: S311 (it spreads load, and guards nothing)
        self._on_change = on_change
        self._failures = 0
        self.missing_from_ns = heard_ns
        """Since when something is missed that no backfill is through with; 0 where nothing is."""
        self._missing_why = "the feed was not running" if heard_ns else ""

    async def run(self) -> None:
        """Reads until it is cancelled.

        Raises:
            ConfigurationError: the service refuses, and no other try would help.
        """
        while True:
            await self._admitted()
            self.state = "connecting"
            ended = await self._connection()
            self.state = "waiting"
            self.problem = str(ended)
            self._failures += 1
            if ended.blames_provider:
                self._breaker.failed(ended.code)
            else:
                self._breaker.abandoned()
            await self._changed()
            if ended.code == "stream_frame_too_long":
                self._pipeline.refuse(ended.what)
            if not self.missing_from_ns and self.heard_ns:
                self.missing_from_ns, self._missing_why = self.heard_ns, ended.code
            pause_s = min(PAUSE_S * 2 ** min(self._failures - 1, 20), PAUSE_S_MAX)
            pause_s *= self._chance.uniform(0.5, 1.0)
            _log.warning("feed_ended", provider=self._provider.name, reason=ended.code, pause_s=pause_s)
            await self._sleep(pause_s)

    async def _admitted(self) -> None:
        """Waits while the circuit is open."""
        while True:
            try:
                self._breaker.admit()
            except CircuitOpenError as error:
                self.state, self.problem = "waiting", str(error)
                await self._sleep(max(0.1, self._breaker.open_until - self._now_ns() / SECOND_NS))
            else:
                return

    async def _connection(self) -> StreamEndedError:
        """Lives through one connection; returns why it ended.

        Raises:
            ConfigurationError: no other would do better.
        """
        ends: list[StreamEndedError | ConfigurationError] = []
        try:
            async with self._provider.open(self._request) as stream, anyio.create_task_group() as tasks:
                opened_ns = self._now_ns()
                self._breaker.succeeded()
                self.connections += 1
                self.state, self.problem = "live", ""
                self._mute.opened(opened_ns)
                await self._changed()
                _log.info("feed_live", provider=self._provider.name, connections=self.connections)
                if self.missing_from_ns:
                    tasks.start_soon(self._fill, self.missing_from_ns, opened_ns)

                async def listen() -> None:
                    ends.append(await self._watch())
                    tasks.cancel_scope.cancel()

                tasks.start_soon(listen)
                try:
                    await self._read(stream)
                except (StreamEndedError, ConfigurationError) as error:
                    ends.append(error)
                tasks.cancel_scope.cancel()
        except (StreamEndedError, ConfigurationError) as error:
            ends.append(error)
        except BaseException:
            self._breaker.abandoned()
            raise
        if isinstance(ends[0], ConfigurationError):
            self._breaker.succeeded()  # it answered
            await self._changed()
            raise ends[0]
        return ends[0]

    async def _read(self, stream: Stream) -> None:
        """Reads frames into the pipeline until the connection ends."""
        while True:
            frame = await stream.receive()
            while True:
                try:
                    count = await self._pipeline.receive(frame, stream.decode)
                    break
                except StorageError as error:  # the service is slowed down until the disk takes it
                    self.problem = str(error)
                    await self._sleep(DISK_WAIT_S)
            if count:
                self.heard_ns = self._now_ns()
                self._mute.heard(self.heard_ns)
                self._failures, self.problem = 0, ""
            if stream.notices:
                for notice in stream.notices:
                    _log.info("feed_notice", provider=self._provider.name, said=notice.text)
                    raise_for(notice)
                stream.notices.clear()

    async def _watch(self) -> StreamEndedError:
        """Returns when the stream is mute."""
        while True:
            await self._sleep(CHECK_S)
            silence_s = self._mute.bound_s
            if self._mute.is_mute(self._now_ns()):
                return StreamEndedError(
                    "stream_mute",
                    f"{self._provider.name} said nothing for {silence_s:g} s in session, over a connection"
                    " that stands",
                    "the feed connects again",
                )

    async def _fill(self, from_ns: int, to_ns: int) -> None:
        try:
            gap = await self._backfill.fill(from_ns, to_ns, self._missing_why)
        except StorageError as error:  # the next connection tries again
            self.problem = str(error)
            return
        _log.info("feed_gap", provider=self._provider.name, reason=gap.reason)
        self.missing_from_ns, self._missing_why = 0, ""

    async def _changed(self) -> None:
        if self._on_change is not None:
            await self._on_change()
