"""The bus over NATS JetStream (extra `nats`): one stream a family, kept by the broker on its disk.

Ids are known to the broker for the stream's window, sequences are the stream's own, durable names are durable
consumers. A stream that is missing is made within `port.BOUNDS`; one that is there is used as it is.

Publishers wait for `block` subscriptions, also of other processes: such a consumer says in its description
how far behind it may be, and a publisher asks the broker before it has sent that many. With one publisher the
bound holds to the message, with several they may exceed it together. A consumer that nobody has asked for in
half a minute holds nobody up.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio

from neural_trader_governance.errors import ConfigurationError, InputError, NetworkError
from neural_trader_tools.bus import events, port
from neural_trader_tools.bus.broker import Broker, NatsSettings, answered_with, unreachable
from neural_trader_tools.bus.events import BusEvent
from neural_trader_tools.bus.jetstream_subscription import JetStreamSubscription, message_id_of
from neural_trader_tools.bus.port import Bounds, Delivery, Message, Published, Span, Start, Subscription
from neural_trader_tools.bus.subjects import FAMILIES, family_of
from neural_trader_tools.market.feed.channels import Policy

if TYPE_CHECKING:
    from nats.js.api import ConsumerInfo

WINDOW = 256
"""Messages on their way to the broker at once."""
LIVE_S = 30.0
_LOOK_S = 0.02
_UNPRESSED = 1_000


class JetStreamBus:
    """`port.Bus` over a broker. Use `open`, which checks that it answers.

    Args:
        settings: Where the broker is.
        bounds: Of streams that are made, where they are not `port.BOUNDS`.
        publish_timeout_s: How long a publisher waits for a full subscription, or for a broker that is away.
    """

    def __init__(
        self,
        settings: NatsSettings,
        *,
        bounds: Mapping[str, Bounds] | None = None,
        publish_timeout_s: float = port.PUBLISH_TIMEOUT_S,
    ) -> None:
        self._bounds = {**port.BOUNDS, **(bounds or {})}
        self._publish_timeout_s = publish_timeout_s
        self.broker = Broker(settings, timeout_s=publish_timeout_s)
        self._made: set[str] = set()
        self._subscriptions: list[JetStreamSubscription] = []
        self._in_flight: set[asyncio.Future[Any]] = set()
        self.broker.when_lost(self._end_waits)
        self._allowed: dict[str, int] = dict.fromkeys(FAMILIES, 0)
        """How many more may be published before the consumers are looked at again."""

    @classmethod
    async def open(
        cls,
        settings: NatsSettings,
        *,
        bounds: Mapping[str, Bounds] | None = None,
        publish_timeout_s: float = port.PUBLISH_TIMEOUT_S,
    ) -> "JetStreamBus":
        """Returns a bus whose broker answers; see the class for the arguments.

        Raises:
            NetworkError: nobody answers, at the first attempt.
            ConfigurationError: nats-py is not installed, or the broker lets us not in.
        """
        bus = cls(settings, bounds=bounds, publish_timeout_s=publish_timeout_s)
        await bus.broker.ready(settings.connect_timeout_s)
        return bus

    async def publish(self, subject: str, event: BusEvent, message_id: str) -> Published:
        """Stores one event; see `Bus.publish`."""
        return (await self.publish_all([Message(subject, event, message_id)]))[0]

    async def publish_all(self, messages: Sequence[Message]) -> list[Published]:
        """Stores events of one family, in order; see `Bus.publish_all`."""
        if not messages:
            return []
        family = events.check_subject(messages[0].subject, type(messages[0].event))
        ready: list[tuple[str, bytes, str]] = []
        for message in messages:
            if events.check_subject(message.subject, type(message.event)) != family:
                raise InputError(
                    "mixed_families", "events of two families were published together", "publish them apart"
                )
            message_id = events.check_message_id(message.message_id)
            ready.append((self._on_the_way(message.subject), events.encode(message.event), message_id))
        answers: list[Published] = []
        while len(answers) < len(ready):
            rest = ready[len(answers) : len(answers) + WINDOW]
            window = rest[: await self._room(family, len(rest))]
            answers += await self._send(family, window)
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
        if durable and any(each.durable == durable for each in self._subscriptions):
            raise InputError(
                "durable_taken", f"{durable} is subscribed already", "close it first, or choose another name"
            )
        await self._stream(family)
        span = await self.span(family)
        made = JetStreamSubscription(
            self.broker,
            self._stream_name(family),
            self._on_the_way(subject_filter),
            start=span.last + 1 if start == "new" else max(1, int(start)),
            first=span.first,
            durable=durable,
            pending_max=pending_max,
            policy=policy,
            ack_wait_s=ack_wait_s,
            upto=span.last,
            on_close=self._forget,
        )
        await made.attach()
        self._subscriptions.append(made)
        self._allowed[family] = 0
        return made

    async def span(self, family: str) -> Span:
        """Returns which sequences a stream holds; see `Bus.span`."""
        from nats.errors import Error

        port.check_family(family)
        await self._stream(family)
        _, streams = await self.broker.ready()
        try:
            state = (await streams.stream_info(self._stream_name(family))).state
        except Error as error:
            raise answered_with(error) from error
        return Span(max(1, state.first_seq), state.last_seq)

    async def newest(self, subject: str) -> Delivery | None:
        """Returns the newest stored event of a subject; see `Bus.newest`."""
        from nats.errors import Error
        from nats.js.errors import NotFoundError

        family = family_of(subject)
        await self._stream(family)
        _, streams = await self.broker.ready()
        try:
            found = await streams.get_last_msg(self._stream_name(family), self._on_the_way(subject))
        except NotFoundError:
            return None
        except Error as error:
            raise answered_with(error) from error
        seq = found.seq or 0
        return Delivery(subject, events.decode(found.data or b""), seq, message_id_of(found.headers, seq))

    async def aclose(self) -> None:
        """Ends every subscription and closes the connection."""
        for each in list(self._subscriptions):
            await each.aclose()
        await self.broker.aclose()

    def _forget(self, subscription: JetStreamSubscription) -> None:
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    def _on_the_way(self, subject: str) -> str:
        prefix = self.broker.settings.prefix
        return f"{prefix}.{subject}" if prefix else subject

    def _stream_name(self, family: str) -> str:
        prefix = self.broker.settings.prefix
        return f"neural-trader-{prefix}-{family}" if prefix else f"neural-trader-{family}"

    async def _stream(self, family: str) -> None:
        """Makes the family's stream where there is none."""
        if family in self._made:
            return
        _, streams = await self.broker.ready()
        from nats.errors import Error
        from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
        from nats.js.errors import NotFoundError

        name, subject = self._stream_name(family), self._on_the_way(f"{family}.>")
        try:
            try:
                found = (await streams.stream_info(name)).config
            except NotFoundError:
                bounds = self._bounds[family]
                await streams.add_stream(
                    StreamConfig(
                        name=name,
                        subjects=[subject],
                        retention=RetentionPolicy.LIMITS,
                        discard=DiscardPolicy.OLD,
                        storage=StorageType.FILE,
                        max_msgs=bounds.entries_max,
                        max_bytes=bounds.bytes_max,
                        max_msg_size=2 * events.EVENT_BYTES_MAX,
                        duplicate_window=self.broker.settings.dedup_window_s,
                    )
                )
            else:
                if subject not in (found.subjects or []):
                    raise ConfigurationError(
                        "foreign_stream",
                        f"the broker's stream {name} holds {found.subjects}, not {subject}",
                        "set another bus_prefix",
                    )
        except Error as error:
            raise answered_with(error) from error
        self._made.add(family)

    async def _send(self, family: str, window: Sequence[tuple[str, bytes, str]]) -> list[Published]:
        """Sends messages until all are acknowledged, in order and under the same ids every time."""
        from nats.errors import Error
        from nats.js.errors import APIError, ServiceUnavailableError

        answers: dict[int, Published] = {}
        problem = "no acknowledgement"
        with anyio.move_on_after(self._publish_timeout_s):
            while True:
                await self._stream(family)
                _, streams = await self.broker.ready()
                sent: dict[int, asyncio.Future[Any]] = {}
                try:
                    for place, (subject, data, message_id) in enumerate(window):
                        if place not in answers:
                            headers = {"Nats-Msg-Id": message_id}
                            sent[place] = await streams.publish_async(subject, data, headers=headers)
                    self._in_flight.update(sent.values())
                    if self.broker.client is not None:
                        await asyncio.wait(sent.values(), timeout=self.broker.settings.answer_timeout_s)
                except (Error, OSError) as error:
                    problem = str(error) or type(error).__name__
                finally:
                    self._in_flight.difference_update(sent.values())
                for place, future in sent.items():
                    if not future.done():
                        future.cancel()
                        continue
                    error = future.exception()
                    if isinstance(error, APIError) and not isinstance(error, ServiceUnavailableError):
                        raise answered_with(error) from error
                    if error is None:
                        answer = future.result()
                        answers[place] = Published(answer.seq, bool(answer.duplicate))
                    else:  # such as a stream that the broker has not recovered yet
                        problem = str(error)
                if len(answers) == len(window):
                    return [answers[place] for place in range(len(window))]
                await anyio.sleep(_LOOK_S)
        raise unreachable(self.broker.settings.url, problem)

    async def _room(self, family: str, wanted: int) -> int:
        """Returns how many of so many messages may be sent now, waiting until it is one."""
        if self._allowed[family] < 1:
            await self._stream(family)
            with anyio.move_on_after(self._publish_timeout_s):
                while True:
                    if await self._look(family):
                        break
                    await anyio.sleep(_LOOK_S)
            if self._allowed[family] < 1 and self.broker.client is None:
                raise unreachable(self.broker.settings.url, "the connection is lost")
            if self._allowed[family] < 1:
                raise port.full(family, self._publish_timeout_s)
        room = min(wanted, self._allowed[family])
        self._allowed[family] -= room
        return room

    def _end_waits(self) -> None:
        """Ends the wait for acknowledgements that the lost connection will not bring."""
        for future in self._in_flight:
            if not future.done():
                future.set_exception(OSError("the connection was lost"))

    async def _look(self, family: str) -> int:
        from nats.errors import Error

        try:
            _, streams = await self.broker.ready()
            consumers = await streams.consumers_info(self._stream_name(family))
        except (Error, NetworkError):
            return 0
        allowed = min(map(_allows, consumers), default=_UNPRESSED)
        self._allowed[family] = max(0, allowed)
        return self._allowed[family]


def _allows(consumer: "ConsumerInfo") -> int:
    """Returns how many more messages this consumer lets publishers send."""
    words = (consumer.config.description or "").split()
    if len(words) != 3 or words[0] != "block" or not (words[1] + words[2]).isdigit():
        return _UNPRESSED
    moments = [
        consumer.created,
        *(each.last_active for each in (consumer.delivered, consumer.ack_floor) if each and each.last_active),
    ]
    if not consumer.num_waiting and datetime.now(UTC) - max(moments) > timedelta(seconds=LIVE_S):
        return _UNPRESSED
    room = int(words[1]) - (consumer.num_pending or 0) - (consumer.num_ack_pending or 0)
    replays = consumer.delivered is not None and consumer.delivered.stream_seq < int(words[2])
    return _UNPRESSED if replays and room < 1 else room
