"""The service: one exchange, driven by requests, prices and time, kept on disk before anybody is told.

Every call runs on the event loop's thread, so they never overlap. What they changed is written by one worker
thread, several calls in one transaction; only then are they answered and are updates sent.
"""

import math
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import anyio.to_thread
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from neural_trader_governance.errors import StorageError
from neural_trader_tools.brokers.exchange.api.documents import Document, update_document
from neural_trader_tools.brokers.exchange.exchange import Exchange
from neural_trader_tools.brokers.exchange.keeping import Keeper, Snapshot, snapshot
from neural_trader_tools.brokers.exchange.updates import Update

BACKLOG_MAX = 10_000
"""Updates that a listener may fall behind; then its connection is closed, and it must ask what it missed."""

_log = structlog.get_logger("neural_trader.exchange")
_T = TypeVar("_T")


class ExchangeService:
    """Serialises calls to an exchange, makes them durable and spreads its updates.

    Args:
        exchange: What is served; nobody else may drive it.
        keeper: Where it is kept.

    Attributes:
        opened_ns: When it began.
        before: Called before each call, on the exchange: a live market brings it to the present there.
    """

    def __init__(self, exchange: Exchange, keeper: Keeper) -> None:
        self.exchange = exchange
        self.keeper = keeper
        self.opened_ns = exchange.now_ns
        self.before: Callable[[Exchange], None] | None = None
        self._listeners: dict[MemoryObjectSendStream[Document], str] = {}
        self._waiting: list[tuple[Snapshot, list[Update], anyio.Event]] = []
        self._work = anyio.Event()
        self._failure: StorageError | None = None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Restores what was kept, and writes while the context is open."""
        await anyio.to_thread.run_sync(self.keeper.restore, self.exchange)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._write)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()

    async def call(self, action: Callable[[Exchange], _T]) -> _T:
        """Runs a call against the exchange and returns its result when what it changed is on the disk.

        Raises:
            RefusedError: the exchange refuses; nothing changed.
            StorageError: it could not be written. The exchange takes nothing more: what it holds in memory
                and what is on the disk differ, and only a new start brings them together.
        """
        if self._failure is not None:
            raise self._failure
        try:
            if self.before is not None:
                self.before(self.exchange)
            result = action(self.exchange)
        finally:
            written = self._hand_over()
        if written is not None:
            await written.wait()
            if self._failure is not None:
                raise self._failure
        return result

    @asynccontextmanager
    async def listen(self, account: str) -> AsyncGenerator[MemoryObjectReceiveStream[Document]]:
        """Hands out a stream of `trade_updates` of one account, from now on."""
        send, receive = anyio.create_memory_object_stream[Document](BACKLOG_MAX)
        self._listeners[send] = account
        try:
            yield receive
        finally:
            self._listeners.pop(send, None)
            send.close()
            receive.close()

    def _hand_over(self) -> anyio.Event | None:
        changes = self.exchange.drain()
        if not (changes.orders or changes.accounts or changes.updates or changes.activities):
            return None
        done = anyio.Event()
        self._waiting.append((snapshot(self.exchange, changes), changes.updates, done))
        self._work.set()
        return done

    async def _write(self) -> None:
        while True:
            await self._work.wait()
            self._work = anyio.Event()
            batch, self._waiting = self._waiting, []
            with anyio.CancelScope(shield=True):  # who called waits for an answer either way
                try:
                    await anyio.to_thread.run_sync(self.keeper.save, [each[0] for each in batch])
                except StorageError as error:
                    self._failure = error
                    _log.error("the exchange's file cannot be written", error=str(error))
                for _, updates, done in batch:
                    if self._failure is None:
                        self._spread(updates)
                    done.set()

    def _spread(self, updates: list[Update]) -> None:
        for update in updates:
            document: Document | None = None
            for stream, account in list(self._listeners.items()):
                if account != update.order.account:
                    continue
                document = document or update_document(self.exchange, update)
                try:
                    stream.send_nowait(document)
                except (anyio.WouldBlock, anyio.BrokenResourceError):
                    self._listeners.pop(stream, None)
                    stream.close()


class RateLimit:
    """So many requests a minute for each key, as a token bucket; 0 knows no bound.

    Args:
        per_minute: The bound, which is also the burst.
        clock: Seconds, monotonic.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, key: str) -> tuple[bool, int, int]:
        """Returns whether a request may pass, how many are left, and in how many seconds all are again."""
        if self.per_minute == 0:
            return True, 0, 0
        now = self._clock()
        tokens, seen = self._buckets.get(key, (float(self.per_minute), now))
        tokens = min(self.per_minute, tokens + (now - seen) * self.per_minute / 60)
        allowed = tokens >= 1
        tokens -= allowed
        self._buckets[key] = (tokens, now)
        return allowed, int(tokens), math.ceil((self.per_minute - tokens) * 60 / self.per_minute)
