"""The live path as a whole: what arrives is judged, recorded, and handed on in the same order."""

import resource
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_trader_governance.errors import StorageError
from neural_trader_tools.market.feed.bars import BarBuilder
from neural_trader_tools.market.feed.channels import Channel
from neural_trader_tools.market.feed.compaction import compact, open_journal
from neural_trader_tools.market.feed.pipeline import Pipeline
from neural_trader_tools.market.feed.recorded import recorded, recorded_ticks
from neural_trader_tools.market.feed.ticks import SECOND_NS, BarTick, Event, Gap, Quote, Trade, parse_ns

START_NS = parse_ns("2026-11-20T15:30:00Z")
MakeTrade = Callable[..., Trade]
MakeQuote = Callable[..., Quote]


class VendorTrade(msgspec.Struct):
    """A vendor's own message, as a provider would describe it."""

    S: str
    p: float
    s: float
    t: str
    i: int


decoder = msgspec.json.Decoder(list[VendorTrade])


def decode(frame: bytes, recv_ns: int) -> list[Event]:
    return [
        Trade(one.S, one.p, one.s, parse_ns(one.t), recv_ns, str(one.i), "V") for one in decoder.decode(frame)
    ]


def frame(*trades: tuple[float, str, int]) -> bytes:
    return msgspec.json.encode(
        [VendorTrade("AAPL", price, 100.0, at, serial) for price, at, serial in trades]
    )


def pipeline(root: Path, **options: object) -> Pipeline:
    return Pipeline(
        open_journal(root),
        now_ns=lambda: START_NS + 60 * SECOND_NS,
        **options,  # pyright: ignore[reportArgumentType]
    )


def delivered(channel: Channel[Event]) -> list[Event]:
    depth = channel.report().depth
    return anyio.run(channel.receive_all, depth) if depth else []


def test_a_frame_goes_all_the_way_with_its_nanoseconds(tmp_path: Path) -> None:
    async def story() -> None:
        path = pipeline(tmp_path, bars=[BarBuilder("1m")])
        everything, bars = path.subscribe("all"), path.subscribe("bars", kinds=[BarTick])
        nobody = path.subscribe("other", symbols=["MSFT"])
        sent = frame(
            (100.0, "2026-11-20T15:30:00.000000001Z", 1),
            (101.0, "2026-11-20T15:30:00.999999999Z", 2),
            (100.5, "2026-11-20T15:31:00Z", 3),
        )
        assert await path.receive(sent, decode) == 3
        assert await path.receive(sent, decode) == 3  # the same again: all repeats
        got = await everything.receive_all()
        assert [event.ts_event_ns for event in got if isinstance(event, Trade)] == [
            START_NS + 1,
            START_NS + 999_999_999,
            START_NS + 60 * SECOND_NS,
        ]
        bar = BarTick("AAPL", "1m", 100.0, 101.0, 100.0, 101.0, 200.0, START_NS, START_NS + 60 * SECOND_NS)
        assert await bars.receive_all() == [bar]
        assert nobody.report().offered == 0
        assert path.last.bar("AAPL", "1m") == bar
        assert await path.commit() == 4
        await path.advance(START_NS + 3600 * SECOND_NS)
        assert len(await bars.receive_all()) == 1
        report = path.report()
        assert (report.frames, report.events, report.appended, report.acknowledged) == (2, 6, 5, 4)
        assert report.actions["drop"] == 3
        assert report.bars == {"1m": 2}
        await path.close()
        assert bars.closed

    anyio.run(story)
    assert recorded(tmp_path, "trade").get_column("price").to_list() == [100.0, 101.0, 100.5]
    assert recorded(tmp_path, "bar").get_column("flags").to_list() == ["made", "made"]


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\x00\xff" * 50, b'{"T":"t"}', b"[" * 100_000, b'[{"S":1}]', frame((1.0, "yesterday", 1))],
)
def test_what_cannot_be_decoded_is_kept_with_its_reason_and_the_feed_goes_on(
    garbage: bytes, tmp_path: Path
) -> None:
    async def story() -> None:
        path = pipeline(tmp_path)
        assert await path.receive(garbage, decode) == 0
        assert await path.receive(frame((100.0, "2026-11-20T15:30:00Z", 1)), decode) == 1
        assert path.report().frames_refused == 1
        await path.close()

    anyio.run(story)
    (kept,) = recorded(tmp_path, "quarantine").to_dicts()
    assert kept["content"] == garbage[:65_536]
    assert kept["reason"].startswith("undecodable: ")
    assert recorded(tmp_path, "trade").height == 1


def test_an_oversized_frame_is_refused_unread_and_known_by_its_digest(tmp_path: Path) -> None:
    async def story() -> None:
        path = pipeline(tmp_path, frame_bytes_max=100_000)

        def unread(_: bytes, __: int) -> list[Event]:
            pytest.fail("it was read")

        assert await path.receive(b"x" * 100_001, unread) == 0
        await path.close()

    anyio.run(story)
    (kept,) = recorded(tmp_path, "quarantine").to_dicts()
    assert kept["reason"].startswith("frame of 100001 bytes, above 100000; the first 65536 bytes of sha256 ")
    assert len(kept["content"]) == 65_536


def test_flags_and_quarantine_are_recorded_and_refused_ticks_reach_nobody(
    tmp_path: Path, trade: MakeTrade, quote: MakeQuote
) -> None:
    async def story() -> list[Event]:
        path = pipeline(tmp_path, bars=[BarBuilder("1d")])
        channel = path.subscribe("all")
        bad = [trade(0.0, 1), trade(1.0, 2), quote(101.0, 99.0, 3), trade(5, 3, symbol="\ud800")]
        await path.take([trade(100), *bad, trade(100, 6), Gap("", 1, 2, "reconnect")])
        events = await channel.receive_all()
        await path.close()
        return events

    events = anyio.run(story)
    assert [type(event) for event in events] == [Trade, Trade, Gap]
    assert recorded(tmp_path, "trade").get_column("flags").to_list() == ["", "gap"]
    refused = recorded(tmp_path, "quarantine")
    assert sorted(refused.get_column("reason")) == ["bad_price", "bad_symbol", "crossed", "jump"]
    assert recorded(tmp_path, "gap").height == 1
    assert sum("bid=101.0" in bytes(content).decode() for content in refused.get_column("content")) == 1


def test_a_blocking_subscriber_slows_the_feed_and_holds_no_commit_up(
    tmp_path: Path, trade: MakeTrade
) -> None:
    async def story() -> None:
        path = pipeline(tmp_path, commit_interval_s=0.001)
        slow = path.subscribe("slow", capacity=10, policy="block")
        lossy = path.subscribe("lossy", capacity=10, policy="drop_oldest")
        sent = [trade(100, i / 100) for i in range(30)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(path.run)
            tasks.start_soon(path.take, sent)
            with anyio.fail_after(10):
                while path.report().acknowledged < 30:
                    await anyio.lowlevel.checkpoint()
            assert slow.report().depth == 10
            got: list[Event] = []
            while len(got) < 30:
                got += await slow.receive_all()
            assert got == sent
            while lossy.report().offered < 30:
                await anyio.lowlevel.checkpoint()
            assert await lossy.receive_all() == sent[20:]
            assert lossy.report().dropped == 20
            tasks.cancel_scope.cancel()
        await path.close()

    anyio.run(story)


def test_a_frame_is_refused_while_too_much_waits_for_the_disk_and_is_no_repeat_afterwards(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        path = Pipeline(open_journal(tmp_path, pending_rows_max=1), now_ns=lambda: START_NS)
        await path.receive(
            frame((100.0, "2026-11-20T15:30:00Z", 1), (100.0, "2026-11-20T15:30:00Z", 2)), decode
        )
        for sent in (later := frame((100.0, "2026-11-20T15:30:00Z", 3)), b"garbage"):
            with pytest.raises(StorageError) as refused:
                await path.receive(sent, decode)
            assert refused.value.code == "journal_behind"
        await path.commit()
        await path.receive(later, decode)
        await path.close()

    anyio.run(story)
    assert recorded(tmp_path, "trade").get_column("trade_id").to_list() == ["1", "2", "3"]


def test_a_closed_subscription_is_forgotten(tmp_path: Path, trade: MakeTrade) -> None:
    async def story() -> None:
        path = pipeline(tmp_path)
        gone, there = path.subscribe("gone", policy="block", capacity=1), path.subscribe("there")
        await path.take([trade(100)])
        gone.close()
        await path.take([trade(100)])
        assert there.report().offered == 2
        assert [channel.name for channel in path.report().channels] == ["there"]
        await path.close()

    anyio.run(story)


def test_a_full_disk_is_reported_and_what_waited_is_written_when_there_is_room(
    tmp_path: Path, trade: MakeTrade
) -> None:
    async def story() -> None:
        path = pipeline(tmp_path)
        await path.take([trade(100)])
        assert await path.commit() == 1
        await path.take([trade(100, i / 10) for i in range(100)])
        former = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, former[1]))
        try:
            with pytest.raises(StorageError):
                await path.commit()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, former)
        assert "journal_write_failed" in path.report().problem
        assert path.report().acknowledged == 1
        assert await path.commit() == 101
        assert path.report().problem == ""
        await path.close()

    anyio.run(story)
    assert recorded(tmp_path, "trade").height == 101


def test_after_a_restart_repeats_are_dropped_and_the_unfinished_bar_goes_on(tmp_path: Path) -> None:
    before = frame(
        (100.0, "2026-11-20T15:29:59Z", 1),
        (100.0, "2026-11-20T15:30:00Z", 2),
        (103.0, "2026-11-20T15:30:20Z", 3),
    )

    async def first() -> None:
        path = pipeline(tmp_path, bars=[BarBuilder("1m")])
        await path.receive(before, decode)
        await path.close()

    async def second() -> None:
        path = pipeline(tmp_path, bars=[BarBuilder("1m")])
        path.recall(recorded_ticks(tmp_path, START_NS - 60 * SECOND_NS))
        channel = path.subscribe("all")
        assert await path.receive(before, decode) == 3  # the gap is filled with more than was missed
        await path.receive(
            frame((102.0, "2026-11-20T15:30:59Z", 4), (1.0, "2026-11-20T15:31:00Z", 5)), decode
        )
        await path.receive(frame((102.0, "2026-11-20T15:31:00Z", 6)), decode)
        got = await channel.receive_all()
        assert [event.trade_id for event in got if isinstance(event, Trade)] == ["4", "6"]
        assert path.report().actions == {"drop": 3, "flag": 1, "quarantine": 1}  # 39 s are a gap
        await path.close()

    anyio.run(first)
    anyio.run(second)
    assert recorded(tmp_path, "trade").height == 5
    bars = recorded(tmp_path, "bar")
    assert bars.select("open", "high", "low", "close", "volume").rows() == [
        (100.0, 100.0, 100.0, 100.0, 100.0),
        (100.0, 103.0, 100.0, 102.0, 300.0),
    ]


@settings(max_examples=15, deadline=None)
@given(
    frames=st.lists(
        st.lists(st.tuples(st.integers(98, 102), st.integers(0, 9), st.integers(0, 30)), max_size=8)
        | st.binary(max_size=20),
        max_size=10,
    )
)
def test_every_event_is_recorded_quarantined_or_counted_as_a_repeat(
    frames: list[list[tuple[int, int, int]] | bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("ticks")

    async def story() -> None:
        path = pipeline(root)
        channel = path.subscribe("all")
        for one in frames:
            if isinstance(one, list):
                one = frame(
                    *((float(price), f"2026-11-20T15:30:0{at}Z", serial) for price, at, serial in one)
                )
            await path.receive(one, decode)
        await path.close()
        report = path.report()
        trades, refused = recorded(root, "trade"), recorded(root, "quarantine")
        assert report.acknowledged == report.appended == trades.height + refused.height
        assert report.events + report.frames_refused == report.appended + report.actions.get("drop", 0)
        got = [event async for event in channel if isinstance(event, Trade)]
        assert sorted(event.trade_id for event in got) == sorted(trades.get_column("trade_id"))
        assert compact(root).rows == report.appended
        assert recorded(root, "trade").equals(trades)

    anyio.run(story)


async def _cancelled_while_committing(root: Path, tick: Trade) -> int:
    journal = open_journal(root)
    path = Pipeline(journal)
    await path.take([tick])
    real = journal.take
    with anyio.CancelScope() as scope:

        def take() -> object:
            scope.cancel()  # the worst instant: the journal has handed its entries out
            return real()

        journal.take = take  # pyright: ignore[reportAttributeAccessIssue]
        await path.commit()
    journal.take = real
    await path.close()
    return recorded(root, "trade").height


def test_a_commit_that_is_cancelled_loses_nothing(tmp_path: Path, trade: MakeTrade) -> None:
    assert anyio.run(_cancelled_while_committing, tmp_path, trade()) == 1
