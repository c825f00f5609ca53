"""Bounded channels: their policies, their watermarks, and that every entry is accounted for."""

from collections import deque

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_trader_governance.errors import InputError
from neural_trader_tools.market.feed.channels import POLICIES, Channel, Policy


def test_a_full_channel_drops_the_oldest_or_the_newest_and_counts_it() -> None:
    oldest, newest = Channel[int]("a", 3, "drop_oldest"), Channel[int]("b", 3, "drop_newest")
    assert [oldest.offer(i) for i in range(5)] == [True] * 5
    assert [newest.offer(i) for i in range(5)] == [True, True, True, False, False]
    assert anyio.run(oldest.receive_all) == [2, 3, 4]
    assert anyio.run(newest.receive_all) == [0, 1, 2]
    assert (oldest.report().dropped, newest.report().dropped) == (2, 2)


def test_sampling_begins_at_the_high_watermark_and_ends_at_the_low_one() -> None:
    passed: list[bool] = []
    channel = Channel[int]("a", 10, "sample", sample_every=3, on_pressure=lambda _, high: passed.append(high))
    taken = [i for i in range(14) if channel.offer(i)]
    assert taken == [0, 1, 2, 3, 4, 5, 6, 7, 10, 13]
    assert not any(channel.offer(i) for i in range(20))  # now it is full
    assert passed == [True]
    assert len(anyio.run(channel.receive_all, 6)) == 6
    assert passed == [True]  # four are left, the low watermark is three
    anyio.run(channel.receive)
    assert passed == [True, False]
    assert channel.offer(99)


def test_entries_sent_together_are_sampled_too_while_there_is_pressure() -> None:
    async def story() -> None:
        channel = Channel[int]("a", 10, "sample", sample_every=3)
        await channel.send_all(range(8))
        assert len(await channel.receive_all(4)) == 4
        await channel.send_all(range(8, 11))
        assert await channel.receive_all() == [4, 5, 6, 7, 10]
        assert channel.report().dropped == 2

    anyio.run(story)


def test_a_blocked_sender_goes_on_at_the_low_watermark_with_nothing_lost() -> None:
    async def story() -> None:
        channel = Channel[int]("a", 10, "block")
        sent: list[int] = []
        received: list[int] = []

        async def send() -> None:
            for i in range(25):
                await channel.send(i)
                sent.append(i)
            channel.close()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            assert len(sent) == 10
            assert not channel.accepting
            assert not channel.offer(0)  # it cannot wait, and is told so
            received += await channel.receive_all(6)
            await anyio.wait_all_tasks_blocked()
            assert len(sent) == 10
            received += await channel.receive_all(1)
            await anyio.wait_all_tasks_blocked()
            assert len(sent) == 17
            received += [entry async for entry in channel]
        assert received == list(range(25))
        report = channel.report()
        assert (report.offered, report.delivered, report.dropped, report.depth_max) == (25, 25, 0, 10)

    anyio.run(story)


def test_a_receiver_waits_for_an_entry_and_gets_the_end_after_the_last_one() -> None:
    async def story() -> None:
        channel = Channel[str]("a", 2)
        got: list[str] = []

        async def receive() -> None:
            async for entry in channel:
                got.append(entry)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            await anyio.wait_all_tasks_blocked()
            channel.offer("one")
            await anyio.wait_all_tasks_blocked()
            assert got == ["one"]
            channel.offer("two")
            channel.close()
        assert got == ["one", "two"]
        with pytest.raises(anyio.ClosedResourceError):
            channel.offer("three")
        with pytest.raises(anyio.EndOfStream):
            await channel.receive()

    anyio.run(story)


def test_closing_wakes_a_blocked_sender() -> None:
    async def story() -> None:
        channel = Channel[int]("a", 1)
        channel.offer(0)
        refused: list[bool] = []

        async def send() -> None:
            try:
                await channel.send(1)
            except anyio.ClosedResourceError:
                refused.append(True)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            channel.close()
        assert refused == [True]

    anyio.run(story)


@settings(max_examples=200, deadline=None)
@given(
    policy=st.sampled_from(POLICIES),
    capacity=st.integers(1, 12),
    every=st.integers(1, 4),
    steps=st.lists(st.integers(-6, 12), max_size=40),
)
def test_everything_offered_is_delivered_waiting_or_counted_as_dropped(
    policy: Policy, capacity: int, every: int, steps: list[int]
) -> None:
    """Positive steps offer so many, negative ones receive; what comes out keeps its order."""
    channel = Channel[int]("a", capacity, policy, sample_every=every)
    waiting: deque[int] = deque()
    out: list[int] = []
    serial = 0

    async def play() -> None:
        nonlocal serial
        for step in steps:
            for _ in range(step):
                if policy == "block" and not channel.accepting:
                    break
                if channel.offer(serial):
                    waiting.append(serial)
                serial += 1
            if step < 0 and channel.report().depth:
                out.extend(await channel.receive_all(-step))
            report = channel.report()
            assert report.offered == report.delivered + report.depth + report.dropped
            assert report.depth <= report.depth_max <= capacity
            if report.depth >= 0.8 * capacity:
                assert report.pressed
            if report.depth <= int(0.3 * capacity) and step < 0:
                assert not report.pressed

    anyio.run(play)
    assert out == sorted(set(out))
    if policy == "block":
        assert channel.report().dropped == 0
    if policy != "drop_oldest":
        assert out == list(waiting)[: len(out)]


@pytest.mark.parametrize(("capacity", "policy"), [(0, "block"), (1, "drop_all")])
def test_a_channel_without_room_or_policy_is_refused(capacity: int, policy: Policy) -> None:
    with pytest.raises(InputError) as refused:
        Channel[int]("a", capacity, policy)
    assert refused.value.code == "invalid_channel"
