"""Following: the venue's own news of orders, over connections that end, and what is done with them.

    take the lock, connect, sign in ──> settle everything (what was missed) ──> hear news, look each order up
      ^                                                                               │
      └── pause: growing, jittered <── the connection ends, or is mute <──────────────┘

News are hints: an order that is told of is looked up, and what the venue has of it is booked, so that news
which are repeated, late, out of order or lost book nothing twice and nothing wrong. While nobody listens, new
orders are refused, and polling (`reconciliation.py`) goes on. A stream over which a change was not told that
polling found is mute, whatever its pings say, and is left for another.
"""

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
import structlog

from neural_trader_governance.errors import ConfigurationError, NetworkError, NeuralTraderError
from neural_trader_governance.identity import Caller
from neural_trader_tools.brokers.port import NewsStream, Telling
from neural_trader_tools.orders.desk import Desk
from neural_trader_tools.orders.hearing import BEAT_S, Hearing
from neural_trader_tools.orders.reconciliation import Discrepancy

PAUSE_S = 0.5
PAUSE_S_MAX = 30.0
LOOK_AGAIN_S = 0.5
UNTOLD_S = 3.0
"""So long after polling found a change the stream may still tell of it."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Following:
    """Follows one venue for one home.

    Attributes:
        connections: How often it was connected.
        problem: Why it does not hear; empty where it does.
    """

    desk: Desk
    venue: Telling
    hearing: Hearing
    caller: Caller
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    monotonic: Callable[[], float] = time.monotonic
    connections: int = 0
    problem: str = "it is not connected yet"
    _changed: dict[str, None] = field(default_factory=dict[str, None], init=False)
    _wake: anyio.Event = field(default_factory=anyio.Event, init=False)
    _told: dict[str, float] = field(default_factory=dict[str, float], init=False)
    _untold: dict[str, float] = field(default_factory=dict[str, float], init=False)
    _chance: random.Random = field(default_factory=random.Random, init=False)

    async def keep(self) -> None:
        """Follows for ever, or until it is cancelled; a process that another precedes waits for its end."""
        while True:
            with self.hearing.alone() as is_ours:
                if is_ours:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(self._beat)
                        tasks.start_soon(self._look_up)
                        await self._follow()
            await self.sleep(BEAT_S)

    def found(self, discrepancy: Discrepancy) -> None:
        """Takes note that polling found a change, which the stream should have told of."""
        now = self.monotonic()
        if not self.problem and now - self._told.get(discrepancy.client_order_id, -1e9) > UNTOLD_S:
            self._untold.setdefault(discrepancy.client_order_id, now)

    async def _follow(self) -> None:
        failures = 0
        while True:
            ended = await self._connection()
            failures = 0 if ended.code == "stream_mute" or not self.problem else failures + 1
            await self._say(f"{ended.code}: {ended.what}")
            _log.warning("updates.ended", reason=ended.code, what=ended.what)
            pause_s = min(PAUSE_S * 2 ** min(failures, 10), PAUSE_S_MAX)
            if isinstance(ended, ConfigurationError):
                pause_s = PAUSE_S_MAX  # a person must act; the desk goes on by polling, and sends nothing
            await self.sleep(pause_s * self._chance.uniform(0.5, 1.0))

    async def _connection(self) -> NeuralTraderError:
        """Lives through one connection; returns why it ended."""
        ends: list[NeuralTraderError] = []
        try:
            async with self.venue.updates() as stream, anyio.create_task_group() as tasks:
                self.connections += 1
                self._untold.clear()

                async def watch() -> None:
                    ends.append(await self._mute())
                    tasks.cancel_scope.cancel()

                async def hear() -> None:
                    try:
                        await self._hear(stream)
                    except (NetworkError, ConfigurationError) as error:
                        ends.append(error)
                        tasks.cancel_scope.cancel()

                tasks.start_soon(hear)  # first: what happens while the rest is asked for is told
                await self._catch_up()
                await self._say("")
                tasks.start_soon(watch)
                _log.info("updates.live", connections=self.connections)
        except (NetworkError, ConfigurationError) as error:
            ends.append(error)
        return ends[0]

    async def _catch_up(self) -> None:
        """Asks for what was missed: what works, and what ended lately, is looked up."""
        try:
            await self.desk.catch_up(self.caller)
        except NeuralTraderError as error:  # a break is on the record, and polling goes on
            _log.error("updates.unsettled", error=str(error))

    async def _hear(self, stream: NewsStream) -> None:
        while True:
            news = await stream.receive()
            now = self.monotonic()
            self._told[news.client_order_id] = now
            self._untold.pop(news.client_order_id, None)
            if len(self._told) > 10_000:
                self._told = {key: at for key, at in self._told.items() if now - at <= UNTOLD_S}
            self._changed[news.client_order_id] = None
            self._wake.set()

    async def _look_up(self) -> None:
        """Looks up what was told of, each order once however often it was told of meanwhile."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            again: list[str] = []
            while self._changed:
                client_order_id = next(iter(self._changed))
                del self._changed[client_order_id]
                try:
                    await self.desk.heard(client_order_id, self.caller)
                except NetworkError:
                    again.append(client_order_id)
                except NeuralTraderError as error:  # a break is on the record, and polling goes on
                    _log.error("updates.unsettled", client_order_id=client_order_id, error=str(error))
            if again:
                await self.sleep(LOOK_AGAIN_S)
                self._changed |= dict.fromkeys(again)
                self._wake.set()

    async def _mute(self) -> NetworkError:
        """Returns when a change was found that was not told."""
        while True:
            await self.sleep(1.0)
            now = self.monotonic()
            late = [name for name, since in self._untold.items() if now - since > UNTOLD_S]
            if late:
                return NetworkError(
                    "stream_mute",
                    f"the venue told nothing of {late[0]}, over a connection that stands",
                    "the desk connects again",
                )

    async def _beat(self) -> None:
        while True:
            await anyio.to_thread.run_sync(self.hearing.say, self.problem, self.connections)
            await self.sleep(BEAT_S)

    async def _say(self, problem: str) -> None:
        self.problem = problem
        await anyio.to_thread.run_sync(self.hearing.say, problem, self.connections)
