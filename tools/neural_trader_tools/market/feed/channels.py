"""Bounded channels: what lies between the feed and a subscriber that may be slower than it.

| policy | when the channel is full |
|---|---|
| block | the sender waits until the subscriber has brought it down to the low watermark |
| drop_oldest | the oldest entry goes: right for prices, where the newest counts |
| drop_newest | the new entry goes |
| sample | above the high watermark only every n-th entry is taken, until the low one is reached |

Every drop is counted. A channel belongs to one event loop.
"""

import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Generic, Literal, TypeVar

import anyio
import msgspec

from neural_trader_governance.errors import InputError

Policy = Literal["block", "drop_oldest", "drop_newest", "sample"]
POLICIES: tuple[Policy, ...] = ("block", "drop_oldest", "drop_newest", "sample")
HIGH_WATERMARK = 0.8
LOW_WATERMARK = 0.3
MARKET_CAPACITY = 10_000

_T = TypeVar("_T")


class ChannelReport(msgspec.Struct, frozen=True, gc=False):
    """A channel's counts: offered = delivered + depth + dropped, always."""

    name: str
    policy: Policy
    capacity: int
    depth: int
    depth_max: int
    offered: int
    delivered: int
    dropped: int
    pressed: bool
    """True from the high watermark until the low one."""
    pressures: int
    """How often the high watermark was reached."""


class Channel(Generic[_T]):
    """A first-in-first-out channel with a bound, a policy and watermarks.

    Args:
        name: Says in reports whose channel it is.
        capacity: Entries at most, from 1.
        policy: What happens when it is full.
        sample_every: With `sample`, one in so many is taken while the channel is under pressure.
        on_pressure: Called when a watermark is passed: with this channel, and true for the high one.

    Raises:
        InputError: the capacity, the policy or the sampling is none.
    """

    def __init__(
        self,
        name: str,
        capacity: int = MARKET_CAPACITY,
        policy: Policy = "block",
        *,
        sample_every: int = 10,
        on_pressure: "Callable[[Channel[_T], bool], object] | None" = None,
    ) -> None:
        if capacity < 1 or sample_every < 1 or policy not in POLICIES:
            raise InputError(
                "invalid_channel",
                f"capacity {capacity}, policy {policy!r:.20} and sample_every {sample_every} make no channel",
                f"give counts from 1 and one of {', '.join(POLICIES)}",
            )
        self.name = name
        self.capacity = capacity
        self.policy: Policy = policy
        self._sample_every = sample_every
        self._on_pressure = on_pressure
        self._high = math.ceil(capacity * HIGH_WATERMARK)
        self._low = math.floor(capacity * LOW_WATERMARK)
        self._entries: deque[_T] = deque()
        self._offered = self._delivered = self._dropped = self._depth_max = self._pressures = 0
        self._since_sample = 0
        self._pressed = self._full = self._closed = False
        self._arrival: anyio.Event | None = None
        self._room: anyio.Event | None = None

    @property
    def closed(self) -> bool:
        """True after `close`."""
        return self._closed

    @property
    def depth(self) -> int:
        """How many entries wait."""
        return len(self._entries)

    @property
    def accepting(self) -> bool:
        """False where a sender to a `block` channel would have to wait."""
        return not self._full

    def report(self) -> ChannelReport:
        """Returns the counts as they stand."""
        return ChannelReport(
            self.name,
            self.policy,
            self.capacity,
            len(self._entries),
            self._depth_max,
            self._offered,
            self._delivered,
            self._dropped,
            self._pressed,
            self._pressures,
        )

    def offer(self, entry: _T) -> bool:
        """Puts an entry in without waiting.

        Returns:
            False where the entry was not taken: dropped and counted, or, with `block`, left to the caller,
            who waits in `send` instead.

        Raises:
            anyio.ClosedResourceError: the channel is closed.
        """
        if self._closed:
            raise anyio.ClosedResourceError
        if self._full and self.policy == "block":
            return False
        self._offered += 1
        entries = self._entries
        if self._pressed and self.policy == "sample":
            self._since_sample += 1
            if self._since_sample < self._sample_every or len(entries) >= self.capacity:
                self._dropped += 1
                return False
            self._since_sample = 0
        elif len(entries) >= self.capacity:
            self._dropped += 1
            if self.policy != "drop_oldest":
                return False
            entries.popleft()
        entries.append(entry)
        depth = len(entries)
        if depth > self._depth_max:
            self._depth_max = depth
        if depth >= self._high:
            self._rose(depth)
        self._arrived()
        return True

    async def send(self, entry: _T) -> bool:
        """Puts an entry in; with `block`, waits for room. Returns false where it was dropped.

        Raises:
            anyio.ClosedResourceError: the channel is closed, or was while this waited.
        """
        while self._full and self.policy == "block" and not self._closed:
            if self._room is None:
                self._room = anyio.Event()
            await self._room.wait()
        return self.offer(entry)

    async def send_all(self, entries: Sequence[_T]) -> None:
        """Puts entries in, in order, each as `send` does.

        Raises:
            anyio.ClosedResourceError: the channel is closed, or was while this waited.
        """
        if self._closed:
            raise anyio.ClosedResourceError
        count = len(entries)
        if not self._pressed and len(self._entries) + count < self._high:  # no watermark is near: all at once
            self._entries.extend(entries)
            self._offered += count
            self._depth_max = max(self._depth_max, len(self._entries))
            if count:
                self._arrived()
            return
        for entry in entries:
            if self._full and self.policy == "block":
                await self.send(entry)
            else:
                self.offer(entry)

    async def receive(self) -> _T:
        """Returns the oldest entry, waiting for one.

        Raises:
            anyio.EndOfStream: the channel is closed and empty.
        """
        return (await self.receive_all(1))[0]

    async def receive_all(self, limit: int = 1_000) -> list[_T]:
        """Returns the oldest entries, from one (waited for) to `limit`.

        Raises:
            anyio.EndOfStream: the channel is closed and empty.
        """
        entries = self._entries
        while not entries:
            if self._closed:
                raise anyio.EndOfStream
            if self._arrival is None:
                self._arrival = anyio.Event()
            await self._arrival.wait()
        if len(entries) <= limit:
            taken = list(entries)
            entries.clear()
        else:
            taken = [entries.popleft() for _ in range(limit)]
        self._delivered += len(taken)
        if (self._pressed or self._full) and len(entries) <= self._low:
            self._fell()
        return taken

    def close(self) -> None:
        """Ends the channel: senders are refused, receivers get what is left and then the end."""
        self._closed = True
        for waited in (self._arrival, self._room):
            if waited is not None:
                waited.set()
        self._arrival = self._room = None

    async def __aiter__(self) -> AsyncIterator[_T]:
        """Yields entries until the channel is closed and empty."""
        while True:
            try:
                taken = await self.receive()
            except anyio.EndOfStream:
                return
            yield taken

    def _arrived(self) -> None:
        if self._arrival is not None:
            self._arrival.set()
            self._arrival = None

    def _rose(self, depth: int) -> None:
        if depth >= self.capacity:
            self._full = True
        if not self._pressed:
            self._pressed = True
            self._pressures += 1
            if self._on_pressure is not None:
                self._on_pressure(self, True)

    def _fell(self) -> None:
        was_pressed, self._pressed, self._full = self._pressed, False, False
        self._since_sample = 0
        if self._room is not None:
            self._room.set()
            self._room = None
        if was_pressed and self._on_pressure is not None:
            self._on_pressure(self, False)
