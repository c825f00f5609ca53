"""The bus in this process: logs, and fan-out over the feed's bounded channels.

    bus = LocalBus()                                  # in memory
    bus = LocalBus(home / "bus.db")                   # all but market on disk, for other processes too

Publishers and subscribers of other processes that open the same file see each other's events of the families
on disk, within a tenth of a second; a `block` subscription holds up the publishers of its own process only.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from neural_trader_governance.errors import InputError
from neural_trader_tools.bus import events, port
from neural_trader_tools.bus.disk_log import DiskLog
from neural_trader_tools.bus.events import BusEvent
from neural_trader_tools.bus.local_subscription import LocalSubscription
from neural_trader_tools.bus.logs import Entry, Log, MemoryLog, event_of
from neural_trader_tools.bus.port import Bounds, Delivery, Message, Published, Span, Start, Subscription
from neural_trader_tools.bus.subjects import FAMILIES, matcher
from neural_trader_tools.market.feed.channels import Policy

ON_DISK = frozenset({"signal", "order", "audit", "backtest"})
"""Market events are recorded by the feed's journal already, and are too many to be written twice."""

_T = TypeVar("_T")
_CHUNK = 1_000
_YIELD_EVERY = 256


class LocalBus:
    """`port.Bus` within this process.

    Args:
        path: The SQLite file of what shall outlive the process; None keeps everything in memory.
        on_disk: The families that the file holds.
        bounds: Of the families, where they are not `port.BOUNDS`.
        synced: Sync every write to the file.
        publish_timeout_s: How long a publisher waits for a full subscription.

    Raises:
        StorageError: the file cannot be opened.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        on_disk: Collection[str] = ON_DISK,
        bounds: Mapping[str, Bounds] | None = None,
        synced: bool = False,
        publish_timeout_s: float = port.PUBLISH_TIMEOUT_S,
    ) -> None:
        kept = {**port.BOUNDS, **(bounds or {})}
        self._logs: dict[str, Log] = {
            family: MemoryLog(kept[family])
            if path is None or family not in on_disk
            else DiskLog(path, family, kept[family], synced=synced)
            for family in FAMILIES
        }
        self._heads = {family: log.span().last for family, log in self._logs.items()}
        self._locks = {family: anyio.Lock(fast_acquire=True) for family in FAMILIES}
        self._subscriptions: dict[str, list[LocalSubscription]] = {family: [] for family in FAMILIES}
        self._publish_timeout_s = publish_timeout_s
        self._since_yield = 0

    async def publish(self, subject: str, event: BusEvent, message_id: str) -> Published:
        """Stores one event and hands it on; see `Bus.publish`."""
        return (await self.publish_all([Message(subject, event, message_id)]))[0]

    async def publish_all(self, messages: Sequence[Message]) -> list[Published]:
        """Stores events of one family, in order; see `Bus.publish_all`."""
        if not messages:
            return []
        family = events.check_subject(messages[0].subject, type(messages[0].event))
        entries: list[Entry] = []
        for message in messages:
            if events.check_subject(message.subject, type(message.event)) != family:
                raise InputError(
                    "mixed_families", "events of two families were published together", "publish them apart"
                )
            message_id = events.check_message_id(message.message_id)
            entries.append(Entry(message.subject, message_id, events.encode(message.event), message.event))
        answers: list[Published] = []
        async with self._locks[family]:  # the order of sequences is the order in which subscribers see them
            while len(answers) < len(entries):
                rest = entries[len(answers) : len(answers) + _CHUNK]
                chunk = rest[: await self._room(family, rest)]
                answers += await self._store(family, chunk)
        return answers

    async def subscribe(
        self,
        subject_filter: str,
        *,
        start: Start = "new",
        durable: str = "",
        pending_max: int = port.PENDING_MAX,
        policy: Policy = "block",
        ack_wait_s: float = port.ACK_WAIT_S,
    ) -> Subscription:
        """Returns a subscription; see `Bus.subscribe`."""
        family = port.check_subscription(subject_filter, start, durable, pending_max, policy, ack_wait_s)
        log = self._logs[family]
        attached = {each.durable for every in self._subscriptions.values() for each in every}
        if durable and durable in attached:
            raise InputError(
                "durable_taken", f"{durable} is subscribed already", "close it first, or choose another name"
            )
        async with self._locks[family]:
            await self._catch_up(family)
            head = self._heads[family]
            cursor = head if start == "new" else max(0, int(start) - 1)
            if durable:
                known = await self._off_loop(log, partial(log.position, durable))
                if known is not None and known[0] != subject_filter:
                    raise InputError(
                        "durable_differs",
                        f"{durable} stands for {known[0]}, not {subject_filter}",
                        "use its filter, or choose another name",
                    )
                if known is not None:
                    cursor = known[1]
                await self._off_loop(log, partial(log.keep_position, durable, subject_filter, cursor))
            made = LocalSubscription(
                self,
                family,
                subject_filter,
                matcher(subject_filter),
                cursor,
                durable=durable,
                pending_max=pending_max,
                policy=policy,
                ack_wait_s=ack_wait_s,
                live=cursor >= head,
            )
            self._subscriptions[family].append(made)
        return made

    async def span(self, family: str) -> Span:
        """Returns which sequences a log holds; see `Bus.span`."""
        log = self._logs[port.check_family(family)]
        return await self._off_loop(log, log.span)

    async def newest(self, subject: str) -> Delivery | None:
        """Returns the newest stored event of a subject; see `Bus.newest`."""
        log = self._logs[events.subjects.family_of(subject)]
        entry = await self._off_loop(log, partial(log.newest, subject))
        return (
            None if entry is None else Delivery(entry.subject, event_of(entry), entry.seq, entry.message_id)
        )

    async def aclose(self) -> None:
        """Ends every subscription and closes the file."""
        for every in self._subscriptions.values():
            for each in list(every):
                await each.aclose()
        for log in self._logs.values():
            log.close()

    # What the bus's own subscriptions ask of it.

    def is_shared(self, family: str) -> bool:
        """Tells whether other processes may write this family."""
        return self._logs[family].shared

    async def look(self, family: str) -> None:
        """Hands on what other processes have written meanwhile."""
        async with self._locks[family]:
            await self._catch_up(family)

    async def replay(
        self, family: str, after: int, limit: int, passes: Callable[[str], bool]
    ) -> tuple[list[Entry], int, int, bool]:
        """Returns stored entries after a sequence, how far this looked, what was missed, and if it is all."""
        async with self._locks[family]:
            log = self._logs[family]
            first = (await self._off_loop(log, log.span)).first
            found, upto = await self._off_loop(log, partial(log.read, after, limit, passes))
            # What another process wrote since we looked last is left to `look`.
            found = [entry for entry in found if entry.seq <= self._heads[family]]
            upto = min(upto, self._heads[family])
        return found, upto, max(0, first - 1 - after), upto >= self._heads[family]

    async def keep_position(self, family: str, durable: str, subject_filter: str, seq: int) -> None:
        """Remembers where a durable name stands."""
        log = self._logs[family]
        await self._off_loop(log, partial(log.keep_position, durable, subject_filter, seq))

    def forget(self, subscription: LocalSubscription) -> None:
        """Hands nothing on to this subscription any more."""
        every = self._subscriptions[subscription.family]
        if subscription in every:
            every.remove(subscription)

    async def _room(self, family: str, entries: Sequence[Entry]) -> int:
        """Returns how many of these entries every blocking subscription can take now, waiting for one."""
        room = len(entries)
        for subscription in list(self._subscriptions[family]):
            if subscription.presses and any(subscription.passes(entry.subject) for entry in entries):
                free = subscription.room
                if not free:
                    with anyio.move_on_after(self._publish_timeout_s):
                        await subscription.wait_for_room()
                    free = subscription.room
                    if not free:
                        raise port.full(family, self._publish_timeout_s)
                room = min(room, free)
        return room

    async def _store(self, family: str, entries: Sequence[Entry]) -> list[Published]:
        self._since_yield += len(entries)
        if self._since_yield >= _YIELD_EVERY:  # a publisher that never waits must not starve subscribers
            self._since_yield = 0
            await anyio.lowlevel.checkpoint()
        log, head = self._logs[family], self._heads[family]
        answers = await self._off_loop(log, partial(log.append, entries))
        fresh = [entry for entry, answer in zip(entries, answers, strict=True) if not answer.duplicate]
        if fresh and fresh[0].seq != head + 1:
            await self._catch_up(family)  # ours are among what is read
        elif fresh:
            self._hand_on(family, fresh)
            self._heads[family] = fresh[-1].seq
        return answers

    async def _catch_up(self, family: str) -> None:
        log = self._logs[family]
        while log.shared:
            after = self._heads[family]
            found, upto = await self._off_loop(log, partial(log.read, after, _CHUNK, lambda _: True))
            if found:
                self._hand_on(family, found)
            self._heads[family] = upto
            if len(found) < _CHUNK:
                return

    def _hand_on(self, family: str, entries: Sequence[Entry]) -> None:
        for subscription in self._subscriptions[family]:
            subscription.take(entries)

    async def _off_loop(self, log: Log, work: Callable[[], _T]) -> _T:
        # Not to be cancelled (the default): what was stored must be handed on in its order.
        return await anyio.to_thread.run_sync(work) if log.shared else work()
