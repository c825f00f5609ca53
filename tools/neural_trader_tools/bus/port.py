"""The bus as the rest of the desk sees it: one interface, in this process or over NATS JetStream.

    ack = await bus.publish(subject, event, message_id)       # stored, under a sequence of its family
    async with await bus.subscribe("market.bar.*.1m", start=1) as bars:
        async for delivery in bars:
            ...
            await delivery.ack()

What every implementation keeps (tests/tools/bus/test_contract.py):
- What `publish` acknowledged is stored, and comes to every `block` subscription at least once: until it is
  acknowledged it comes again after `ack_wait_s`.
- A message id that the family's log still remembers is not stored twice; the acknowledgement says so.
- Events are stored in the order in which they were published, and delivered in that order. What comes again,
  or was on its way when a connection was lost, may come after newer ones; `pending_max=1` keeps the order.
- A subscription that starts at a sequence gets what is stored from there on, then what is new, with no hole
  between; what the bounded log has already let go is counted as missed.
- A durable name's position outlives its subscription and, where the log is on disk, the process.

Not guaranteed: exactly once (be idempotent by `message_id`), an order between families, and that a log keeps
anything beyond its bounds.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Literal, Protocol, Self

import msgspec

from neural_trader_governance.errors import InputError, StorageError
from neural_trader_tools.bus.events import BusEvent
from neural_trader_tools.bus.subjects import FAMILIES, family_filtered
from neural_trader_tools.market.feed.channels import POLICIES, Policy

Start = Literal["new"] | int
"""Where a subscription begins: with what is published from now on, or at a sequence (from 1)."""

PENDING_MAX = 1_000
ACK_WAIT_S = 30.0
PUBLISH_TIMEOUT_S = 30.0
MEBIBYTE = 1 << 20


class Bounds(msgspec.Struct, frozen=True):
    """How much of a family is kept for replay; the oldest goes first."""

    entries_max: int
    bytes_max: int


BOUNDS = {
    "market": Bounds(1_000_000, 256 * MEBIBYTE),
    "signal": Bounds(100_000, 64 * MEBIBYTE),
    "order": Bounds(100_000, 64 * MEBIBYTE),
    "audit": Bounds(100_000, 256 * MEBIBYTE),
    "backtest": Bounds(100_000, 64 * MEBIBYTE),
}


class Message(msgspec.Struct, frozen=True, gc=False):
    """What is to be published."""

    subject: str
    event: BusEvent
    message_id: str


class Published(msgspec.Struct, frozen=True, gc=False):
    """An acknowledgement: the message is stored."""

    seq: int
    """In its family. Of a duplicate, the sequence of the first one."""
    duplicate: bool = False


class Span(msgspec.Struct, frozen=True):
    """The sequences that a family's log holds: first to last; first = last + 1 where it holds none."""

    first: int
    last: int


class Delivery:
    """One event, delivered. Acknowledge it, or give it back to have it again at once."""

    __slots__ = ("_settle", "attempt", "event", "message_id", "seq", "subject")

    def __init__(
        self,
        subject: str,
        event: BusEvent,
        seq: int,
        message_id: str,
        attempt: int = 1,
        settle: Callable[[int, bool], Awaitable[None]] | None = None,
    ) -> None:
        self.subject = subject
        self.event = event
        self.seq = seq
        self.message_id = message_id
        self.attempt = attempt
        self._settle = settle

    async def ack(self) -> None:
        """Says that this needs not come again; a second time does nothing."""
        if self._settle is not None:
            await self._settle(self.seq, True)

    async def give_back(self) -> None:
        """Has this delivered again at once."""
        if self._settle is not None:
            await self._settle(self.seq, False)


class SubscriptionReport(msgspec.Struct, frozen=True):
    """A subscription's counts since it was made."""

    subject_filter: str
    durable: str
    policy: Policy
    delivered: int
    """Redeliveries included."""
    redelivered: int
    acknowledged: int
    dropped: int
    """By the policy."""
    missed: int
    """Of the sequence that the subscription asked for, no longer in the log."""
    refused: int
    """No event of ours; they are not delivered and do not come again."""
    waiting: int
    unacknowledged: int


class Subscription(Protocol):
    """Deliveries, for one task."""

    async def receive(self) -> Delivery:
        """Returns the next delivery, waiting for one.

        Raises:
            anyio.EndOfStream: the subscription or the bus is closed.
        """
        ...

    def __aiter__(self) -> AsyncIterator[Delivery]:
        """Yields deliveries until the subscription or the bus is closed."""
        ...

    def report(self) -> SubscriptionReport:
        """Returns the counts as they stand."""
        ...

    async def aclose(self) -> None:
        """Ends the subscription; a durable name's position stays."""
        ...

    async def __aenter__(self) -> Self:
        """Returns the subscription."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the subscription."""
        ...


class Bus(Protocol):
    """Publishes and subscribes. A bus belongs to one event loop; threads use `anyio.from_thread.run`."""

    async def publish(self, subject: str, event: BusEvent, message_id: str) -> Published:
        """Stores one event and hands it to every subscription whose filter passes it.

        Waits while a live `block` subscription is full.

        Raises:
            InputError: subject, event or id is none; nothing was stored.
            StorageError: `bus_full`, a subscriber did not make room in time, or the disk refused; nothing
                was stored.
            NetworkError: the broker could not be reached in time. Whether it has the event is not known:
                publish it again under the same id.
        """
        ...

    async def publish_all(self, messages: Sequence[Message]) -> list[Published]:
        """Stores events of one family in order, many at once; otherwise as `publish`.

        Raises:
            StorageError: as `publish`; a first part may be stored.
            NetworkError: as `publish`.
        """
        ...

    async def subscribe(
        self,
        subject_filter: str,
        *,
        start: Start = "new",
        durable: str = "",
        pending_max: int = PENDING_MAX,
        policy: Policy = "block",
        ack_wait_s: float = ACK_WAIT_S,
    ) -> Subscription:
        """Returns a subscription that nothing published from now on passes by.

        Args:
            subject_filter: Of one family; `*` is a word, `>` the rest.
            start: Where to begin; a durable name that has a position goes on there instead.
            durable: Keeps the position under this name. With `block` only.
            pending_max: So many deliveries wait or are not acknowledged, at most.
            policy: When that many do: `block` has publishers wait; the others drop, count, and deliver each
                event at most once, with nothing to acknowledge.
            ack_wait_s: After so long without an acknowledgement a delivery comes again.

        Raises:
            InputError: an argument is wrong, or the durable name is taken or has another filter.
            NetworkError: the broker could not be reached.
        """
        ...

    async def span(self, family: str) -> Span:
        """Returns which sequences a family's log holds."""
        ...

    async def newest(self, subject: str) -> Delivery | None:
        """Returns the newest stored event of a subject, with nothing to acknowledge."""
        ...

    async def aclose(self) -> None:
        """Ends every subscription and closes the logs or the connection."""
        ...


def check_subscription(
    subject_filter: str, start: Start, durable: str, pending_max: int, policy: Policy, ack_wait_s: float
) -> str:
    """Returns the family of a subscription whose arguments make sense.

    Raises:
        InputError: one does not.
    """
    family = family_filtered(subject_filter)
    what = ""
    if not (start == "new" or start >= 0):
        what = f"start {start!r:.20} is neither a sequence nor 'new'"
    elif policy not in POLICIES:
        what = f"{policy!r:.20} is no policy"
    elif pending_max < 1 or not 0.01 <= ack_wait_s <= 86_400:
        what = f"pending_max {pending_max} or ack_wait_s {ack_wait_s} is out of bounds"
    elif durable and policy != "block":
        what = f"{policy} drops, and a durable name keeps everything"
    elif durable and not (durable.replace("-", "").replace("_", "").isalnum() and durable.isascii()):
        what = f"{durable!r:.40} is no durable name"
    elif len(durable) > 64:
        what = "a durable name has at most 64 characters"
    if what:
        raise InputError(
            "invalid_subscription",
            what,
            f"use a count from 1, 0.01 to 86,400 s, one of {', '.join(POLICIES)}, and block with a durable"
            " name of letters, digits, - and _",
        )
    return family


def check_family(family: str) -> str:
    """Returns a family that there is.

    Raises:
        InputError: there is no such family.
    """
    if family not in FAMILIES:
        raise InputError(
            "unknown_family", f"{family!r:.40} is no family", f"use one of {', '.join(FAMILIES)}"
        )
    return family


def full(family: str, waited_s: float) -> StorageError:
    """Returns the failure of a publisher whose patience ended."""
    return StorageError(
        "bus_full",
        f"a subscriber of {family} events made no room in {waited_s:g} s; nothing more was published",
        "let it go on or close it, or subscribe with drop_oldest",
    )
