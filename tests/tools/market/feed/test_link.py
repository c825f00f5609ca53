"""A stream over connections that end: made anew, signed in, subscribed again; what was missed comes in."""

import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from tests.tools.market.loopback import alpaca_stream
from tests.tools.market.loopback.alpaca import AlpacaLoopback, minutes
from tests.tools.market.loopback.alpaca_stream import AlpacaStreamLoopback, minute_bar, trade
from tests.tools.market.loopback.massive import MassiveLoopback
from tests.tools.market.loopback.massive import bar as massive_bar
from tests.tools.market.loopback.server import Fault
from tests.tools.market.providers.conftest import Hand

from neural_trader_governance.errors import ConfigurationError
from neural_trader_tools.market.feed.backfill import Backfill
from neural_trader_tools.market.feed.channels import Channel
from neural_trader_tools.market.feed.compaction import open_journal
from neural_trader_tools.market.feed.hours import SessionHours
from neural_trader_tools.market.feed.link import CHECK_S, Link
from neural_trader_tools.market.feed.mute import MuteWatch
from neural_trader_tools.market.feed.pipeline import Pipeline
from neural_trader_tools.market.feed.ticks import SECOND_NS, BarTick, Event, Gap, Trade, parse_ns
from neural_trader_tools.market.providers.alpaca import Alpaca
from neural_trader_tools.market.providers.alpaca_stream import AlpacaStream
from neural_trader_tools.market.providers.breaker import CircuitBreaker
from neural_trader_tools.market.providers.massive import Massive
from neural_trader_tools.market.providers.stream import StreamRequest

pytestmark = pytest.mark.anyio
FIRST = "2026-11-20T15:30:00Z"
FIRST_NS = parse_ns(FIRST)
SESSION = SessionHours((parse_ns("2026-11-20T14:30:00Z"),), (parse_ns("2026-11-20T21:00:00Z"),))


class Time(Hand):
    """The clock of a feed, in the test's hand: the watch over silence wakes only when the test says so."""

    def __init__(self) -> None:
        super().__init__(FIRST_NS / SECOND_NS)
        self._ticked = anyio.Event()

    def ns(self) -> int:
        return round(self() * SECOND_NS)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if seconds == CHECK_S:
            await self._ticked.wait()
        else:
            self.now_s += seconds
            await anyio.lowlevel.checkpoint()

    def tick(self, seconds: float) -> None:
        self.now_s += seconds
        self._ticked.set()
        self._ticked = anyio.Event()

    @property
    def pauses(self) -> list[float]:
        return [seconds for seconds in self.slept if seconds != CHECK_S]


class Linked:
    """A link that runs, and what a test looks at."""

    def __init__(
        self, link: Link, pipeline: Pipeline, events: Channel[Event], time: Time, breaker: CircuitBreaker
    ):
        self.link = link
        self.pipeline = pipeline
        self.events = events
        self.time = time
        self.breaker = breaker

    async def next(self) -> Event:
        with anyio.fail_after(20):
            return await self.events.receive()

    async def until(self, condition: Callable[[], object]) -> None:
        with anyio.fail_after(20):
            while not condition():  # noqa: ASYNC110 (it hangs on what the service's thread does)
                await anyio.sleep(0.001)


Start = Callable[..., Any]


@pytest.fixture
def started(
    tmp_path: Path,
    alpaca_live: AlpacaStreamLoopback,
    make_alpaca_stream: Callable[..., AlpacaStream],
    make_alpaca: Callable[..., Alpaca],
) -> Start:
    """`async with started() as linked`: a link to the loopback services, running."""

    @asynccontextmanager
    async def start(
        *, mute_s: float = 60.0, heard_ns: int = 0, runs: bool = True, pending: int = 1_000, **settings: Any
    ) -> AsyncGenerator[Linked]:
        time = Time()
        pipeline = Pipeline(open_journal(tmp_path / "feed", pending_rows_max=pending), now_ns=time.ns)
        request = StreamRequest(("AAPL",))
        breaker = CircuitBreaker("alpaca-stream", time)
        history = make_alpaca()
        link = Link(
            make_alpaca_stream(**settings),
            request,
            pipeline,
            breaker=breaker,
            backfill=Backfill(history, request, pipeline, now_ns=time.ns, sleep=time.sleep),
            mute=MuteWatch(mute_s, SESSION),
            heard_ns=heard_ns,
            now_ns=time.ns,
            sleep=time.sleep,
            chance=random.Random(1),  # noqa: S311
        )
        linked = Linked(link, pipeline, pipeline.subscribe("test"), time, breaker)
        async with anyio.create_task_group() as tasks:
            if runs:
                tasks.start_soon(link.run)
            yield linked
            tasks.cancel_scope.cancel()
        await history.aclose()
        await pipeline.close()

    return start


async def subscribed(service: AlpacaStreamLoopback, times: int) -> None:
    """Waits until a client has connected so often and is subscribed."""

    def is_so() -> bool:
        return service.connected == times and bool(service.sessions and service.sessions[-1].channels)

    await anyio.to_thread.run_sync(service.wait_until, is_so)


async def test_a_connection_that_falls_is_made_anew_and_the_minutes_missed_are_filled_in_once(
    started: Start, alpaca_live: AlpacaStreamLoopback, alpaca_api: AlpacaLoopback
) -> None:
    alpaca_api.bars["AAPL", "1Min"] = minutes(datetime(2026, 11, 20, 15, 29, tzinfo=UTC), [190.0] * 7)
    alpaca_api.now = datetime(2026, 11, 20, 16, tzinfo=UTC)
    async with started() as linked:
        await subscribed(alpaca_live, 1)
        linked.time.now_s += 60
        alpaca_live.publish([trade("AAPL", 190.0, FIRST, 1), minute_bar("AAPL", 190.0, FIRST)])
        assert [type(await linked.next()) for _ in range(2)] == [Trade, BarTick]
        linked.time.now_s += 243.5  # 15:35:03.5
        alpaca_live.drop()
        await subscribed(alpaca_live, 2)
        filled = [await linked.next() for _ in range(5)]
    bars, [gap] = filled[:-1], filled[-1:]
    assert isinstance(gap, Gap)
    # 15:30 came live before; 15:31 is where the feed was last heard, 15:34 was over when it was back.
    assert [bar.ts_event_ns for bar in bars if isinstance(bar, BarTick)] == [
        FIRST_NS + place * 60 * SECOND_NS for place in (1, 2, 3, 4)
    ]
    assert (gap.from_ns, gap.symbol) == (FIRST_NS + 60 * SECOND_NS, "")
    assert gap.reason.startswith("stream_connection_lost; 4 minute bars backfilled; trades and quotes")
    assert [one["action"] for one in alpaca_live.said] == ["auth", "subscribe"] * 2
    pause, settle = linked.time.pauses
    assert 0.5 <= pause <= 1
    assert settle == pytest.approx(15 + 60 - 55 - 3.5 - pause)  # 20 s after 15:35
    [asked] = alpaca_api.asked("/v2/stocks/bars")
    assert (asked.query["start"], asked.query["timeframe"]) == ("2026-11-20T15:31:00Z", "1Min")


async def test_what_history_repeats_is_dropped_and_what_it_corrects_is_a_revision(
    tmp_path: Path, make_alpaca: Callable[..., Alpaca], alpaca_api: AlpacaLoopback
) -> None:
    alpaca_api.bars["AAPL", "1Min"] = minutes(datetime(2026, 11, 20, 15, 30, tzinfo=UTC), [190.0, 191.0])
    alpaca_api.bars["AAPL", "1Min"][1]["o"] = "none"
    alpaca_api.bars["AAPL", "1Min"] += minutes(datetime(2026, 11, 20, 15, 32, tzinfo=UTC), [192.0])
    alpaca_api.now = datetime(2026, 11, 20, 16, tzinfo=UTC)
    time = Time()
    time.now_s += 240
    pipeline = Pipeline(open_journal(tmp_path / "feed"), now_ns=time.ns)
    events = pipeline.subscribe("test")
    values = (190.0, 191.9, 188.1, 190.0, 1000.0)
    await pipeline.take([BarTick("AAPL", "1m", *values, FIRST_NS, FIRST_NS)])
    await pipeline.take(
        [BarTick("AAPL", "1m", *values, FIRST_NS + 120 * SECOND_NS, FIRST_NS + 180 * SECOND_NS)]
    )
    history, request = make_alpaca(), StreamRequest(("AAPL",))
    fill = Backfill(history, request, pipeline, now_ns=time.ns, sleep=time.sleep).fill
    await fill(FIRST_NS, time.ns(), "why")
    _, _, revision, gap = await events.receive_all(10)
    assert isinstance(revision, BarTick)
    assert (revision.close, revision.ts_recv_ns) == (192.0, time.ns())
    assert isinstance(gap, Gap)
    assert pipeline.rules.reasons["duplicate"] == 1
    assert pipeline.report().messages_refused == 1  # the bar without a number
    await history.aclose()
    await pipeline.close()


async def test_a_service_that_refuses_is_tried_with_growing_pauses_and_then_left_alone(
    started: Start, alpaca_live: AlpacaStreamLoopback
) -> None:
    alpaca_live.statuses = [503] * 6
    async with started() as linked:
        await linked.until(lambda: linked.link.state == "live")
        pauses = linked.time.pauses
        assert linked.breaker.circuit == "closed"
    grown = [*pauses[:5], pauses[6]]
    assert all(2**place / 2 <= pause <= 2**place for place, pause in enumerate(grown))
    assert len({round(pause / 2**place, 6) for place, pause in enumerate(grown)}) == 6  # jitter
    assert pauses[5] == pytest.approx(30 - pauses[4])  # the circuit was open for 30 s from the fifth failure
    assert pauses[7] == pytest.approx(60 - pauses[6])  # and twice as long after the trial failed


@pytest.mark.parametrize("silent_s", [59.0, 61.0])
async def test_a_stream_that_says_nothing_in_session_is_connected_again(
    started: Start, alpaca_live: AlpacaStreamLoopback, silent_s: float
) -> None:
    async with started() as linked:
        await subscribed(alpaca_live, 1)
        alpaca_live.publish([trade("AAPL", 190.0, FIRST, 1)])
        await linked.next()
        linked.time.tick(silent_s)
        if silent_s > 60:
            await subscribed(alpaca_live, 2)
            gap = await linked.next()
            assert isinstance(gap, Gap)
            assert gap.reason.startswith("stream_mute")
        else:
            alpaca_live.publish([trade("AAPL", 190.0, FIRST, 2)])
            await linked.next()
            assert alpaca_live.connected == 1


async def test_what_a_service_says_of_the_connection_is_no_data(
    started: Start, alpaca_live: AlpacaStreamLoopback
) -> None:
    async with started() as linked:
        await subscribed(alpaca_live, 1)
        await linked.until(lambda: linked.link.state == "live")
        linked.time.now_s += 50
        alpaca_live.publish([{"T": "success", "msg": "authenticated"}])
        await linked.until(lambda: linked.pipeline.report().frames)
        linked.time.tick(11)
        await subscribed(alpaca_live, 2)


async def test_out_of_hours_silence_is_fine(started: Start, alpaca_live: AlpacaStreamLoopback) -> None:
    async with started() as linked:
        await subscribed(alpaca_live, 1)
        await linked.until(lambda: linked.link.state == "live")
        linked.time.tick(6 * 3600)  # 21:30, after the close
        alpaca_live.publish([trade("AAPL", 190.0, FIRST, 2)])
        await linked.next()
        assert alpaca_live.connected == 1


async def test_a_plan_that_does_not_allow_it_ends_the_feed(
    started: Start, alpaca_live: AlpacaStreamLoopback
) -> None:
    async with started(runs=False) as linked:
        alpaca_live.feeds = {"sip"}
        with pytest.raises(ConfigurationError, match="409"):
            await linked.link.run()
        assert alpaca_live.connected == 1
    alpaca_live.feeds.add("iex")
    async with started(runs=False) as linked, anyio.create_task_group() as tasks:

        async def say() -> None:
            await subscribed(alpaca_live, 2)
            alpaca_live.publish([alpaca_live.error(405)])

        tasks.start_soon(say)
        with pytest.raises(ConfigurationError, match="405"):
            await linked.link.run()


async def test_a_frame_beyond_the_bound_is_recorded_and_costs_the_connection_only(
    started: Start, alpaca_live: AlpacaStreamLoopback
) -> None:
    async with started(frame_bytes_max=4096) as linked:
        await subscribed(alpaca_live, 1)
        alpaca_live.send(b"\xc0" * 100_000)
        await subscribed(alpaca_live, 2)
        alpaca_live.publish([trade("AAPL", 190.0, FIRST, 1)])
        await linked.next()
        assert linked.pipeline.report().frames_refused == 1


async def test_garbage_is_quarantined_and_the_stream_goes_on(
    started: Start, alpaca_live: AlpacaStreamLoopback
) -> None:
    async with started() as linked:
        await subscribed(alpaca_live, 1)
        good = alpaca_stream.encoded([trade("AAPL", 190.0, FIRST, 1)], packs=True)
        assert isinstance(good, bytes)
        for frame in (b"\xc1", b"\x91" * 100_000, good[:-3], b"text", good):
            alpaca_live.send(frame)
        assert isinstance(await linked.next(), Trade)
        report = linked.pipeline.report()
        assert (report.frames_refused, report.quarantined, alpaca_live.connected) == (4, 4, 1)


async def test_minutes_that_history_refuses_are_said_in_the_gap(
    started: Start, alpaca_live: AlpacaStreamLoopback, alpaca_api: AlpacaLoopback
) -> None:
    alpaca_api.faults = [Fault(match="bars", status=403, times=-1)]
    async with started(heard_ns=FIRST_NS - 600 * SECOND_NS) as linked:
        gap = await linked.next()
    assert isinstance(gap, Gap)
    assert gap.from_ns == FIRST_NS - 600 * SECOND_NS
    assert gap.reason.startswith("the feed was not running; not backfilled: provider_plan")


async def test_a_gap_that_could_not_be_filled_before_the_next_fall_is_filled_after_it(
    started: Start, alpaca_live: AlpacaStreamLoopback, alpaca_api: AlpacaLoopback
) -> None:
    held = anyio.Event()
    async with started(runs=False, heard_ns=FIRST_NS - 600 * SECOND_NS) as linked:
        real = linked.link._backfill.fill  # pyright: ignore[reportPrivateUsage]
        spans: list[tuple[int, int]] = []

        async def fill(from_ns: int, to_ns: int, why: str) -> Gap:
            spans.append((from_ns, to_ns))
            if len(spans) == 1:
                await held.wait()
            return await real(from_ns, to_ns, why)

        linked.link._backfill.fill = fill  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(linked.link.run)
            await subscribed(alpaca_live, 1)
            alpaca_live.drop()
            await subscribed(alpaca_live, 2)
            assert isinstance(await linked.next(), Gap)
            tasks.cancel_scope.cancel()
    assert [span[0] for span in spans] == [FIRST_NS - 600 * SECOND_NS] * 2


async def test_a_disk_that_refuses_slows_the_service_down_and_loses_nothing(
    started: Start, alpaca_live: AlpacaStreamLoopback
) -> None:
    async with started(pending=0) as linked:
        await subscribed(alpaca_live, 1)
        for serial in range(3):
            alpaca_live.publish([trade("AAPL", 190.0, FIRST, serial)])
        seen: list[Event] = []
        for _ in range(3):
            seen.append(await linked.next())
            assert linked.pipeline.report().events == len(seen)  # the next waits for the disk
            await linked.pipeline.commit()
        assert [one.trade_id for one in seen if isinstance(one, Trade)] == ["0", "1", "2"]


async def test_everything_is_asked_for_by_a_star_and_filled_for_what_was_heard(
    tmp_path: Path, make_alpaca: Callable[..., Alpaca], alpaca_api: AlpacaLoopback
) -> None:
    alpaca_api.bars["MSFT", "1Min"] = minutes(datetime(2026, 11, 20, 15, 30, tzinfo=UTC), [190.0])
    alpaca_api.now = datetime(2026, 11, 20, 16, tzinfo=UTC)
    time = Time()
    time.now_s += 60
    pipeline = Pipeline(open_journal(tmp_path / "feed"), now_ns=time.ns)
    history, request = make_alpaca(), StreamRequest(("*",))
    fill = Backfill(history, request, pipeline, now_ns=time.ns, sleep=time.sleep).fill
    nothing = await fill(FIRST_NS, time.ns(), "why")
    assert "0 minute bars" in nothing.reason
    await pipeline.take([Trade("MSFT", 190.0, 1.0, FIRST_NS, FIRST_NS, "1", "V")])
    assert "1 minute bars" in (await fill(FIRST_NS, time.ns(), "why")).reason
    old = await fill(FIRST_NS - 30 * 86_400 * SECOND_NS, time.ns(), "why")
    assert "none from before 7 days" in old.reason
    await history.aclose()
    await pipeline.close()


async def test_massives_minutes_fill_a_gap_too(
    tmp_path: Path, make_massive: Callable[..., Massive], massive_api: MassiveLoopback
) -> None:
    first_ms = FIRST_NS // 1_000_000
    massive_api.bars["AAPL", 1, "minute"] = [
        massive_bar(first_ms + place * 60_000, 190.0) for place in (0, 1, 5)
    ]
    time = Time()
    time.now_s += 180
    pipeline = Pipeline(open_journal(tmp_path / "feed"), now_ns=time.ns)
    events = pipeline.subscribe("test", kinds=[BarTick])
    history, request = make_massive(), StreamRequest(("AAPL",))
    gap = await Backfill(history, request, pipeline, now_ns=time.ns, sleep=time.sleep).fill(
        FIRST_NS, time.ns(), "why"
    )
    assert "2 minute bars backfilled" in gap.reason
    assert [bar.ts_event_ns for bar in await events.receive_all() if isinstance(bar, BarTick)] == [
        FIRST_NS,
        FIRST_NS + 60 * SECOND_NS,
    ]
    await history.aclose()
    await pipeline.close()
