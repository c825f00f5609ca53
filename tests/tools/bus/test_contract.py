"""The contract of `port.Bus`, held by every implementation: in memory, on disk, over NATS JetStream."""

from collections.abc import Sequence

import anyio
import anyio.lowlevel
import pytest
from tests.tools.bus.conftest import OpenBus

from neural_trader_governance.errors import InputError, StorageError
from neural_trader_tools.bus import subjects
from neural_trader_tools.bus.events import AuditEvent, BusEvent, OrderEvent, subject_of
from neural_trader_tools.bus.port import Bounds, Bus, Delivery, Message, Span, Subscription
from neural_trader_tools.market.feed.ticks import BarTick, Gap, Quote, Trade

pytestmark = pytest.mark.anyio

ODD = ("^GSPC", "BTC/USD", "BRK.B", "株式", "a b", "*", ">", "ÅNGSTRÖM.ST", "%41", "", "x" * 80)


def quote(number: int, symbol: str = "AAPL") -> Quote:
    return Quote(symbol, 190.0 + number, 1.0, 191.0 + number, 2.0, number, number + 1, "V")


async def publish(bus: Bus, event: BusEvent, message_id: str) -> int:
    return (await bus.publish(subject_of(event), event, message_id)).seq


def batch(numbers: Sequence[int], symbol: str = "AAPL") -> list[Message]:
    return [
        Message(subjects.market_tick("quote", symbol), quote(n, symbol), f"{symbol}-{n}") for n in numbers
    ]


async def take(subscription: Subscription, count: int, *, ack: bool = True) -> list[Delivery]:
    taken: list[Delivery] = []
    with anyio.fail_after(20):
        while len(taken) < count:
            taken.append(await subscription.receive())
            if ack:
                await taken[-1].ack()
    return taken


async def nothing_comes(subscription: Subscription) -> bool:
    with anyio.move_on_after(0.1):
        await subscription.receive()
        return False
    return True


async def test_what_is_published_arrives_as_it_was_with_its_sequence_and_id(open_bus: OpenBus) -> None:
    bus = await open_bus()
    events: list[BusEvent] = [
        quote(1),
        Trade("AAPL", 190.5, 100, 1_700_000_000_123_456_789, 7, "t1", "V", ("@", "I")),
        BarTick("AAPL", "1m", 1.0, 2.0, 0.5, 1.5, 1e6, 5, 6),
        Gap("", 1, 2, "reconnect"),
    ]
    async with await bus.subscribe("market.>") as subscription:
        sent = [await publish(bus, event, f"id-{place}") for place, event in enumerate(events)]
        got = await take(subscription, 4)
    assert sent == [1, 2, 3, 4]
    assert [(one.seq, one.event, one.message_id, one.subject, one.attempt) for one in got] == [
        (place + 1, event, f"id-{place}", subject_of(event), 1) for place, event in enumerate(events)
    ]


@pytest.mark.parametrize("symbol", ODD)
async def test_odd_names_travel_and_filter_as_one_word(open_bus: OpenBus, symbol: str) -> None:
    bus = await open_bus()
    bar = BarTick(symbol, "1d", 1.0, 1.0, 1.0, 1.0, 1.0, 1, 1)
    async with (
        await bus.subscribe(subjects.market_bar(symbol, "1d")) as exact,
        await bus.subscribe("market.bar.*.1d") as by_word,
        await bus.subscribe(subjects.market_bar("OTHER", "1d")) as other,
    ):
        await publish(bus, bar, "one")
        assert [one.event for one in await take(exact, 1)] == [bar]
        assert subjects.unescape((await take(by_word, 1))[0].subject.split(".")[2]) == symbol
        assert await nothing_comes(other)


async def test_an_id_that_was_published_before_is_stored_and_delivered_once(open_bus: OpenBus) -> None:
    bus = await open_bus()
    async with await bus.subscribe("market.>") as subscription:
        first = await bus.publish("market.quote.AAPL", quote(1), "same")
        again = await bus.publish("market.quote.AAPL", quote(2), "same")
        both = await bus.publish_all(batch([5]) + batch([5]))
        assert (again.seq, again.duplicate, first.duplicate) == (first.seq, True, False)
        assert [(one.seq, one.duplicate) for one in both] == [(2, False), (2, True)]
        assert [one.event for one in await take(subscription, 2)] == [quote(1), quote(5)]
        assert await nothing_comes(subscription)


async def test_a_subscription_from_a_sequence_gets_the_rest_and_then_what_is_new(open_bus: OpenBus) -> None:
    bus = await open_bus()
    await bus.publish_all(batch(range(40)))
    async with await bus.subscribe("market.>", start=11, pending_max=7) as replay:
        got = await take(replay, 10)
        await publish(bus, quote(100), "new")
        got += await take(replay, 21)
        assert [one.seq for one in got] == list(range(11, 42))
        assert replay.report().missed == 0
    assert await bus.span("market") == Span(1, 41)


async def test_nothing_is_lost_or_repeated_where_replay_meets_what_is_published_meanwhile(
    open_bus: OpenBus,
) -> None:
    bus = await open_bus()
    await bus.publish_all(batch(range(200)))
    async with anyio.create_task_group() as tasks, await bus.subscribe("market.>", start=1) as replay:

        async def go_on() -> None:
            for number in range(200, 400, 4):
                await bus.publish_all(batch(range(number, number + 4)))

        tasks.start_soon(go_on)
        assert [one.seq for one in await take(replay, 400)] == list(range(1, 401))


async def test_a_filter_leaves_out_what_it_does_not_name_and_families_have_own_sequences(
    open_bus: OpenBus,
) -> None:
    bus = await open_bus()
    order = OrderEvent("o-1", "BRK.B", "paper", "agent-1", "broker.fill", "filled", 7, 1)
    async with (
        await bus.subscribe("market.quote.MSFT") as quotes,
        await bus.subscribe("order.BRK%2EB.>") as orders,
        await bus.subscribe("market.*.AAPL") as apple,
    ):
        await bus.publish_all(batch([1], "AAPL") + batch([2], "MSFT"))
        assert await publish(bus, order, "fill-7") == 1
        assert [one.event for one in await take(quotes, 1)] == [quote(2, "MSFT")]
        assert [one.event for one in await take(orders, 1)] == [order]
        assert [one.event for one in await take(apple, 1)] == [quote(1)]


async def test_what_is_not_acknowledged_comes_again_before_what_is_new(open_bus: OpenBus) -> None:
    bus = await open_bus()
    async with await bus.subscribe("market.>", ack_wait_s=0.3, pending_max=3) as subscription:
        await bus.publish_all(batch(range(3)))
        first = await take(subscription, 3, ack=False)
        await first[1].ack()
        again = await take(subscription, 2)
        assert [(one.seq, one.attempt) for one in again] == [(1, 2), (3, 2)]
        assert [one.event for one in again] == [quote(0), quote(2)]
        await publish(bus, quote(9), "later")
        assert [(one.seq, one.attempt) for one in await take(subscription, 1)] == [(4, 1)]
        report = subscription.report()
        assert (report.delivered, report.redelivered, report.unacknowledged) == (6, 2, 0)


async def test_what_is_given_back_comes_again_at_once(open_bus: OpenBus) -> None:
    bus = await open_bus()
    async with await bus.subscribe("market.>", ack_wait_s=60) as subscription:
        await bus.publish_all(batch(range(2)))
        first = await take(subscription, 1, ack=False)
        await first[0].give_back()
        rest = await take(subscription, 2)
        assert sorted((one.seq, one.attempt) for one in rest) == [(1, 2), (2, 1)]


async def test_a_durable_name_goes_on_where_it_stood(open_bus: OpenBus) -> None:
    bus = await open_bus()
    await bus.publish_all(batch(range(10)))
    async with await bus.subscribe("market.>", start=1, durable="books", ack_wait_s=0.5) as first:
        await take(first, 4)
        await take(first, 2, ack=False)
    async with await bus.subscribe("market.>", start="new", durable="books", ack_wait_s=0.5) as second:
        got = await take(second, 6)
        assert sorted({one.seq for one in got}) == list(range(5, 11))
        assert await nothing_comes(second)


async def test_a_durable_name_belongs_to_one_subscription_and_one_filter(open_bus: OpenBus) -> None:
    bus = await open_bus()
    async with await bus.subscribe("market.quote.*", durable="books"):
        with pytest.raises(InputError, match="durable_taken"):
            await bus.subscribe("market.quote.*", durable="books")
    with pytest.raises(InputError, match="durable_differs"):
        await bus.subscribe("market.trade.*", durable="books")


async def test_publishers_wait_for_a_slow_subscriber_and_lose_nothing(open_bus: OpenBus) -> None:
    bus = await open_bus()
    published: list[int] = []
    async with anyio.create_task_group() as tasks, await bus.subscribe("market.>", pending_max=10) as slow:

        async def go_on() -> None:
            for number in range(60):
                published.append(await publish(bus, quote(number), str(number)))

        tasks.start_soon(go_on)
        for taken in range(60):
            got = await take(slow, 1, ack=False)
            await anyio.lowlevel.checkpoint()
            assert got[0].seq == taken + 1
            assert len(published) - taken <= 10
            await got[0].ack()


async def test_a_publisher_that_waited_too_long_is_told_and_has_stored_nothing(open_bus: OpenBus) -> None:
    bus = await open_bus(publish_timeout_s=0.3)
    async with await bus.subscribe("market.>", pending_max=2) as stuck:
        await bus.publish_all(batch(range(2)))
        with pytest.raises(StorageError, match="bus_full"):
            await publish(bus, quote(3), "three")
        assert (await bus.span("market")).last == 2
        await take(stuck, 2)
        assert await publish(bus, quote(3), "three") == 3


async def test_a_subscriber_that_drops_never_holds_publishers_up_and_counts(open_bus: OpenBus) -> None:
    bus = await open_bus()
    async with await bus.subscribe("market.>", pending_max=10, policy="drop_oldest") as prices:
        await bus.publish_all(batch(range(300)))
        with anyio.fail_after(20):
            while True:  # over a broker what was published is on its way
                if prices.report().dropped == 290:
                    break
                await anyio.sleep(0.005)
        got = await take(prices, 10)
        assert [one.seq for one in got] == list(range(291, 301))
        assert (prices.report().dropped, prices.report().delivered) == (290, 10)


async def test_the_oldest_goes_at_the_bound_and_a_replay_counts_what_it_missed(open_bus: OpenBus) -> None:
    bus = await open_bus(bounds={"market": Bounds(50, 2**20)})
    await bus.publish_all(batch(range(80)))
    assert await bus.span("market") == Span(31, 80)
    async with await bus.subscribe("market.>", start=1) as late:
        assert [one.seq for one in await take(late, 50)] == list(range(31, 81))
        assert late.report().missed == 30
    smaller = await open_bus(bounds={"signal": Bounds(10**6, 3_000)})
    assert (await smaller.span("signal")) == Span(1, 0)


async def test_the_newest_event_of_a_subject_is_found(open_bus: OpenBus) -> None:
    bus = await open_bus()
    assert await bus.newest(subjects.AUDIT_ENTRY) is None
    text = '{"a":"' + "\\n" * 100 + '"}'
    events = [AuditEvent(number, "order.intent", "0" * 64, text, 1) for number in range(3)]
    for event in events:
        await publish(bus, event, f"audit-{event.audit_seq}")
    newest = await bus.newest(subjects.AUDIT_ENTRY)
    assert newest is not None
    assert (newest.seq, newest.message_id, newest.event) == (3, "audit-2", events[2])


async def test_what_is_no_event_or_goes_under_a_wrong_subject_is_refused(open_bus: OpenBus) -> None:
    bus = await open_bus()
    cases: list[tuple[str, BusEvent, str, str]] = [
        ("market.bar.AAPL.1m", quote(1), "id", "wrong_subject"),
        ("market.quote.A B", quote(1), "id", "invalid_subject"),
        ("elsewhere.AAPL", quote(1), "id", "invalid_subject"),
        ("market.quote.AAPL", quote(1), "", "invalid_message_id"),
        ("market.quote.AAPL", quote(1), "a\r\nNats-Rollup: all", "invalid_message_id"),
        ("market.quote.AAPL", Quote("AAPL", float("nan"), 1, 1, 1, 1, 1, ""), "id", "invalid_event"),
        ("market.gap.%", Gap("", 1, 2, "x" * 300_000), "id", "invalid_event"),
        ("order.A.o", OrderEvent("o" * 81, "A", "p", "a", "w", "s", 0, 1), "id", "invalid_event"),
    ]
    for subject, event, message_id, code in cases:
        with pytest.raises(InputError, match=code):
            await bus.publish(subject, event, message_id)
    for wrong in ("market", "*.AAPL", ">", "market.>.x", "market..x", "market.a b"):
        with pytest.raises(InputError, match="invalid_filter"):
            await bus.subscribe(wrong)
    with pytest.raises(InputError, match="invalid_subscription"):
        await bus.subscribe("market.>", durable="x", policy="drop_oldest")
    assert (await bus.span("market")).last == 0


async def test_a_closed_subscription_ends_its_reader_and_holds_nobody_up(open_bus: OpenBus) -> None:
    bus = await open_bus()
    ended: list[bool] = []
    async with anyio.create_task_group() as tasks:
        subscription = await bus.subscribe("market.>", pending_max=1)

        async def read() -> None:
            async for _ in subscription:
                pass
            ended.append(True)

        tasks.start_soon(read)
        await publish(bus, quote(1), "1")
        await anyio.sleep(0.05)
        await subscription.aclose()
    assert ended == [True]
    await publish(bus, quote(2), "2")
    await publish(bus, quote(3), "3")
