"""A subscription over JetStream: a pull consumer that is asked for as much as there is room for."""

import contextlib
import functools
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.lowlevel

from neural_trader_governance.errors import DataError, InputError, NetworkError
from neural_trader_tools.bus import events
from neural_trader_tools.bus.broker import Broker, answered_with
from neural_trader_tools.bus.port import Delivery, SubscriptionReport
from neural_trader_tools.market.feed.channels import Channel, Policy

Msg = Any
"""nats-py's signatures are typed in part only."""
HEARTBEAT_S = 1.0
SILENCE_S = 3.5
"""After so long without a heartbeat the consumer is looked for, and asked again."""
ASK_S = 30.0
ASK_MAX = 512
FORGET_S = 300.0
"""A consumer without a durable name, whom nobody asks for so long, is forgotten by the broker."""
LATELY_MAX = 50_000
_YIELD_EVERY = 64
_HEARTBEAT = "100"
_OVER = ("404", "408")
_CHANGEABLE = ("description", "ack_wait", "max_ack_pending")


class JetStreamSubscription:
    """`port.Subscription` on a `JetStreamBus`, which makes it."""

    def __init__(
        self,
        broker: Broker,
        stream: str,
        subject_filter: str,
        *,
        start: int,
        first: int,
        upto: int,
        durable: str,
        pending_max: int,
        policy: Policy,
        ack_wait_s: float,
        on_close: "Callable[[JetStreamSubscription], object]",
    ) -> None:
        self.durable = durable
        self._broker, self._stream, self._filter = broker, stream, subject_filter
        self._name = durable or f"once-{uuid.uuid4().hex}"
        self._next = start
        self._description = f"block {pending_max} {upto}" if policy == "block" else "drops"
        """Read by publishers: they wait for us, once we have seen what was stored when we came."""
        self._missed = 0 if durable else max(0, first - start)
        self._policy: Policy = policy
        self._keeps = policy == "block"
        self._pending_max, self._ack_wait_s = pending_max, ack_wait_s
        self._on_close = on_close
        self._channel: Channel[tuple[Any, float]] = Channel(subject_filter, pending_max + self._keeps, policy)
        self._unsettled: dict[int, tuple[Msg, float]] = {}
        self._lately: dict[int, None] = {}
        """Acknowledged, oldest first: a broker that was killed has forgotten the last acknowledgements."""
        self._inbox: Any = None
        self._attached = 0
        self._asked = 0
        self._heard_s = 0.0
        self._stir = anyio.Event()
        self._since_yield = 0
        self._delivered = self._redelivered = self._acknowledged = self._refused = 0
        self._closed = False
        broker.when_lost(self._wake)

    async def attach(self) -> None:
        """Makes the consumer, or finds it again, and listens for what it delivers.

        Raises:
            InputError: the durable name stands for another filter.
            NetworkError: the broker does not answer, or refuses.
        """
        client, streams = await self._broker.ready()
        from nats.errors import Error
        from nats.js.errors import NotFoundError

        try:
            try:
                found = await streams.consumer_info(self._stream, self._name)
            except NotFoundError:
                await streams.add_consumer(self._stream, self._config())
            else:
                if found.config.filter_subject != self._filter:
                    raise InputError(
                        "durable_differs",
                        f"{self._name} stands for {found.config.filter_subject}, not {self._filter}",
                        "use its filter, or choose another name",
                    )
                if found.config.description != self._description:
                    wanted = {name: getattr(self._config(), name) for name in _CHANGEABLE}
                    await streams.add_consumer(self._stream, found.config.evolve(**wanted))
            inbox = client.new_inbox()
            self._attached += 1
            arrived = functools.partial(self._arrived, self._attached)
            self._inbox = await client.subscribe(inbox, cb=arrived, pending_bytes_limit=0)
        except Error as error:
            raise answered_with(error) from error
        self._asked = 0
        self._heard_s = time.monotonic()
        await self._ask()

    async def receive(self) -> Delivery:
        """Returns the next delivery; see `Subscription.receive`."""
        self._since_yield += 1
        if self._since_yield >= _YIELD_EVERY:
            self._since_yield = 0
            await anyio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise anyio.EndOfStream
            if self._inbox is None or self._broker.client is None:
                await self._return()
                continue
            if self._channel.depth:
                message, arrived_s = (await self._channel.receive_all(1))[0]
                delivery = await self._delivery(message, arrived_s)
                if self._asked <= 0:
                    await self._ask()
                if delivery is not None:
                    return delivery
                continue
            await self._ask()
            stir = self._stir
            with anyio.move_on_after(SILENCE_S):
                await stir.wait()
            if time.monotonic() - self._heard_s > SILENCE_S and not self._channel.depth:
                await self._return()

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
            subject_filter=self._plain(self._filter),
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
        self._on_close(self)
        self._broker.forget(self._wake)
        self._wake()
        if self._broker.client is None or self._inbox is None:
            return  # the broker forgets by itself
        from nats.errors import Error

        try:
            await self._inbox.unsubscribe()
            client, streams = await self._broker.ready(HEARTBEAT_S)
            if self.durable:
                # Has the broker forget what we asked for; it would give that what comes again next.
                await streams.consumer_info(self._stream, self._name)
                for message, _ in await self._held():  # else they would come again after the wait only
                    await message.nak()
                await client.flush()
            else:
                await streams.delete_consumer(self._stream, self._name)
        except (Error, NetworkError, anyio.ClosedResourceError):
            pass

    async def __aenter__(self) -> Self:
        """Returns the subscription."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the subscription."""
        with anyio.CancelScope(shield=True):
            await self.aclose()

    async def _held(self) -> list[tuple[Any, float]]:
        """Returns what is not acknowledged, and takes out what waits."""
        depth = self._channel.depth
        return [*self._unsettled.values(), *(await self._channel.receive_all(depth) if depth else [])]

    def _plain(self, subject: str) -> str:
        return subject.removeprefix(f"{self._broker.settings.prefix}.")

    def _config(self) -> Any:
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

        return ConsumerConfig(
            name=self._name,
            durable_name=self.durable or None,
            description=self._description,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self._next,
            ack_policy=AckPolicy.EXPLICIT if self._keeps else AckPolicy.NONE,
            ack_wait=self._ack_wait_s if self._keeps else None,
            max_ack_pending=self._pending_max if self._keeps else None,
            filter_subject=self._filter,
            inactive_threshold=None if self.durable else FORGET_S,
        )

    async def _return(self) -> None:
        """Attaches again after a loss; deliveries of the old connection come again by themselves."""
        if self._keeps:
            await self._held()
            self._next = min([self._next, *self._unsettled])  # for a broker that forgot the consumer
        self._unsettled.clear()
        self._inbox = None
        self._attached += 1  # what still arrives at the old inbox is left alone
        try:
            await self.attach()
        except NetworkError:
            await anyio.sleep(0.1)
        except anyio.ClosedResourceError:
            await self.aclose()

    async def _ask(self) -> None:
        """Asks the broker for as many as there is room for, where nothing is asked for yet."""
        if self._asked > 0 or self._closed or self._inbox is None:
            return
        room = ASK_MAX
        if self._keeps:
            late_s = time.monotonic() - self._ack_wait_s
            for seq in [seq for seq, (_, given_s) in self._unsettled.items() if given_s < late_s]:
                del self._unsettled[seq]  # comes again
            room = min(ASK_MAX, self._pending_max - len(self._unsettled) - self._channel.depth)
        if room < 1:
            return
        self._asked = room
        request = {
            "batch": room,
            "expires": int(ASK_S * 1e9),
            "idle_heartbeat": int(HEARTBEAT_S * 1e9),
        }
        from nats.errors import Error

        client = self._broker.client
        try:
            if client is None:
                raise Error
            await client.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}",
                json.dumps(request).encode(),
                reply=self._inbox.subject,
            )
        except Error:
            self._asked = 0  # lost: `receive` finds out

    async def _arrived(self, attached: int, message: Msg) -> None:
        """Takes in what the broker sends: a message, a heartbeat, or the end of what was asked for."""
        if attached != self._attached:
            return  # over a connection that was given up
        self._heard_s = time.monotonic()
        if not message.reply:
            status = message.headers.get("Status") if message.headers else ""
            if status != _HEARTBEAT:
                self._asked = 0
                if status not in _OVER:  # such as a consumer that is gone
                    self._inbox = None
                self._wake()
            return
        self._asked -= 1
        self._channel.offer((message, self._heard_s))
        self._wake()
        if self._asked <= 0 and not self._keeps:
            await self._ask()  # what drops goes on, however slow its reader

    async def _delivery(self, message: Msg, arrived_s: float) -> Delivery | None:
        meta = message.metadata
        seq, attempt = meta.sequence.stream, meta.num_delivered
        if self._keeps and time.monotonic() - arrived_s > self._ack_wait_s:
            return None  # lay here for so long that it comes again anyway
        self._next = max(self._next, seq + 1)
        if seq in self._lately:
            await self._answered(message.ack)
            return None
        try:
            event = events.decode(message.data)
            subject = self._plain(message.subject)
            events.check_subject(subject, type(event))
        except (DataError, InputError):
            self._refused += 1
            if self._keeps:
                await self._answered(message.term)
            return None
        self._delivered += 1
        self._redelivered += attempt > 1
        message_id = message_id_of(message.headers, seq)
        if not self._keeps:
            return Delivery(subject, event, seq, message_id)
        self._unsettled[seq] = (message, arrived_s)
        return Delivery(subject, event, seq, message_id, attempt, self._settle)

    async def _settle(self, seq: int, done: bool) -> None:
        message, _ = self._unsettled.pop(seq, (None, 0.0))
        if done:
            self._lately[seq] = None
            if len(self._lately) > LATELY_MAX:
                del self._lately[next(iter(self._lately))]
        if message is None or self._closed:
            return
        self._acknowledged += done
        await self._answered(message.ack if done else message.nak)
        self._wake()

    async def _answered(self, answer: Callable[[], Awaitable[None]]) -> None:
        from nats.errors import Error

        with contextlib.suppress(Error):  # lost with its connection: it comes again
            await answer()

    def _wake(self) -> None:
        self._stir.set()
        self._stir = anyio.Event()


def message_id_of(headers: dict[str, str] | None, seq: int) -> str:
    """Returns the id that a message was published under; a foreign one without any gets its sequence."""
    found = headers.get("Nats-Msg-Id") if headers else ""
    return found or f"seq-{seq}"
