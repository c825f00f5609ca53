"""A subscription of the bus in this process: first what is stored, then what is new, until acknowledged."""

import heapq
import time
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

import anyio
import anyio.lowlevel

from neural_trader_governance.errors import DataError
from neural_trader_tools.bus.logs import Entry, event_of
from neural_trader_tools.bus.port import Delivery, SubscriptionReport
from neural_trader_tools.market.feed.channels import Channel, Policy

POLL_S = 0.1
"""How often a subscription looks for what other processes wrote."""
KEEP_POSITION_S = 0.2
_PAGE = 500
_YIELD_EVERY = 64


class Source(Protocol):
    """What a subscription asks of its bus."""

    def is_shared(self, family: str) -> bool:
        """Tells whether other processes may write this family."""
        ...

    async def look(self, family: str) -> None:
        """Hands on what other processes have written meanwhile."""
        ...

    async def replay(
        self, family: str, after: int, limit: int, passes: Callable[[str], bool]
    ) -> tuple[list[Entry], int, int, bool]:
        """Returns stored entries after a sequence, how far this looked, what was missed, and if it is all."""
        ...

    async def keep_position(self, family: str, durable: str, subject_filter: str, seq: int) -> None:
        """Remembers where a durable name stands."""
        ...

    def forget(self, subscription: "LocalSubscription") -> None:
        """Hands nothing on to this subscription any more."""
        ...


class LocalSubscription:
    """`port.Subscription` on a `LocalBus`, which makes it.

    Args:
        source: The bus.
        family: Whose events.
        subject_filter: Of subjects, for reports.
        passes: Tells whether a subject passes the filter.
        cursor: The sequence after which it begins.
        durable: Its durable name, or empty.
        pending_max: Of deliveries that wait or are not acknowledged.
        policy: When there are so many.
        ack_wait_s: When a delivery comes again.
        live: It has nothing stored to read first.
        now_s: A clock that only goes forward.
    """

    def __init__(
        self,
        source: Source,
        family: str,
        subject_filter: str,
        passes: Callable[[str], bool],
        cursor: int,
        *,
        durable: str,
        pending_max: int,
        policy: Policy,
        ack_wait_s: float,
        live: bool,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.family, self.durable, self.passes = family, durable, passes
        self._source, self._filter = source, subject_filter
        self._policy: Policy = policy
        self._keeps = policy == "block"
        self._pending_max, self._ack_wait_s, self._now_s = pending_max, ack_wait_s, now_s
        self._live, self._cursor, self._taken = live, cursor, cursor
        # With `block` the bus looks at `room`, which counts what is not acknowledged too: never full.
        self._channel: Channel[Entry] = Channel(subject_filter, pending_max + self._keeps, policy)
        self._unsettled: dict[int, tuple[Entry, int]] = {}
        """Delivered and not acknowledged, with the number of the last attempt."""
        self._due: list[tuple[float, int, int]] = []
        """When a delivery comes again: moment, sequence, attempt. Those that are settled are skipped."""
        self._made_room = anyio.Event()  # set where no publisher waits, who is one at a time
        self._made_room.set()
        self._stir = anyio.Event()
        self._idle = False
        self._since_yield = 0
        self._delivered = self._redelivered = self._acknowledged = self._missed = self._refused = 0
        self._kept, self._kept_s = cursor, now_s()
        self._closed = False

    @property
    def presses(self) -> bool:
        """True where publishers wait for this subscription."""
        return self._keeps and self._live and not self._closed

    @property
    def room(self) -> int:
        """How many more deliveries it may hold."""
        if self._closed:
            return self._pending_max
        return max(0, self._pending_max - len(self._unsettled) - self._channel.depth)

    async def wait_for_room(self) -> None:
        """Returns when there is room, or nobody needs it any more."""
        while not self.room:
            self._made_room = anyio.Event()
            await self._made_room.wait()

    def take(self, entries: Sequence[Entry]) -> None:
        """Takes in what is new, without waiting; the bus has seen to it that there is room."""
        if not self._live or self._closed:
            return  # what is not live comes by itself, from the log
        for entry in entries:
            if entry.seq > self._cursor and self.passes(entry.subject):
                if self._keeps and not self.room:
                    # Another process's flood, which nobody here can hold up: it is read from the log later.
                    self._live, self._cursor = False, entry.seq - 1
                    break
                self._channel.offer(entry)
        else:
            self._cursor = max(self._cursor, entries[-1].seq)
        self._wake()

    async def receive(self) -> Delivery:
        """Returns the next delivery; see `Subscription.receive`."""
        self._since_yield += 1
        if self._since_yield >= _YIELD_EVERY:  # a subscriber that never waits must not starve publishers
            self._since_yield = 0
            await anyio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise anyio.EndOfStream
            delivery = self._again()
            if delivery is None and not self._channel.depth and not self._live:
                await self._refill()
            if delivery is None and self._channel.depth:
                delivery = self._delivery((await self._channel.receive_all(1))[0])
            if delivery is not None:
                return delivery
            if not self._channel.depth:
                await self._wait()

    async def __aiter__(self) -> AsyncIterator[Delivery]:
        """Yields deliveries until the end; see `Subscription.__aiter__`."""
        while True:
            try:
                delivery = await self.receive()
            except anyio.EndOfStream:
                return
            yield delivery

    def report(self) -> SubscriptionReport:
        """Returns the counts as they stand."""
        channel = self._channel.report()
        return SubscriptionReport(
            subject_filter=self._filter,
            durable=self.durable,
            policy=self._policy,
            delivered=self._delivered,
            redelivered=self._redelivered,
            acknowledged=self._acknowledged,
            dropped=channel.dropped,
            missed=self._missed,
            refused=self._refused,
            waiting=channel.depth,
            unacknowledged=len(self._unsettled),
        )

    async def aclose(self) -> None:
        """Ends the subscription; see `Subscription.aclose`."""
        if self._closed:
            return
        self._closed = True
        self._channel.close()
        self._wake()
        self._made_room.set()
        self._source.forget(self)
        await self._keep_position()

    async def __aenter__(self) -> Self:
        """Returns the subscription."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the subscription."""
        with anyio.CancelScope(shield=True):
            await self.aclose()

    async def _wait(self) -> None:
        """Returns when something came, became due, or has to be looked for."""
        wait_s = self._due[0][0] - self._now_s() if self._due else float("inf")
        shared = self._source.is_shared(self.family) and self._live
        with anyio.move_on_after(max(0.0, min(wait_s, POLL_S) if shared else wait_s)) as scope:
            self._idle = True
            await self._stir.wait()
        self._idle = False
        if shared and scope.cancelled_caught:
            await self._source.look(self.family)

    def _wake(self) -> None:
        if self._idle:
            self._idle = False
            self._stir.set()
            self._stir = anyio.Event()

    def _again(self) -> Delivery | None:
        """Returns what was not acknowledged in time, the one that waits longest first."""
        while self._due and (self._due[0][0] <= self._now_s()):
            _, seq, attempt = heapq.heappop(self._due)
            unsettled = self._unsettled.get(seq)
            if unsettled is not None and unsettled[1] == attempt:
                self._redelivered += 1
                return self._delivery(unsettled[0], attempt + 1)
        while self._due and self._unsettled.get(self._due[0][1], (None, 0))[1] != self._due[0][2]:
            heapq.heappop(self._due)  # nobody should wake for what is settled
        return None

    def _delivery(self, entry: Entry, attempt: int = 1) -> Delivery | None:
        if attempt == 1:
            self._taken = entry.seq
        try:
            event = event_of(entry)
        except DataError:
            self._refused += 1
            self._settled()
            return None
        self._delivered += 1
        if not self._keeps:
            return Delivery(entry.subject, event, entry.seq, entry.message_id)
        self._unsettled[entry.seq] = (entry, attempt)
        heapq.heappush(self._due, (self._now_s() + self._ack_wait_s, entry.seq, attempt))
        return Delivery(entry.subject, event, entry.seq, entry.message_id, attempt, self._settle)

    async def _settle(self, seq: int, done: bool) -> None:
        unsettled = self._unsettled.get(seq)
        if unsettled is None or self._closed:
            return
        if not done:
            heapq.heappush(self._due, (0.0, seq, unsettled[1]))
            self._wake()
            return
        del self._unsettled[seq]
        self._acknowledged += 1
        self._settled()
        if self.durable and self._now_s() - self._kept_s >= KEEP_POSITION_S:
            await self._keep_position()

    def _settled(self) -> None:
        self._wake()
        if not self._made_room.is_set():
            self._made_room.set()

    async def _keep_position(self) -> None:
        if not self.durable:
            return
        floor = min(self._unsettled, default=self._taken + 1) - 1
        if not self._unsettled and self._live and not self._channel.depth:
            floor = self._cursor
        self._kept_s = self._now_s()
        if floor > self._kept:
            self._kept = floor
            await self._source.keep_position(self.family, self.durable, self._filter, floor)

    async def _refill(self) -> None:
        """Reads on in the log, until there is nothing but what is new."""
        while not self._live and not self._channel.depth and self.room:
            limit = min(self.room, _PAGE)
            found, upto, missed, all_read = await self._source.replay(
                self.family, self._cursor, limit, self.passes
            )
            self._missed += missed
            self._cursor = upto
            self._live = all_read and not self._closed
            for entry in found:
                self._channel.offer(entry)
