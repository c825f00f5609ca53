"""Signals over a real bus: arriving bars are decided on as in a backtest of the same bars."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import numpy as np
import pytest

from neural_trader_governance.errors import InputError, StrategyError
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_tools.backtest.prices import VALUES, Prices
from neural_trader_tools.backtest.settings import BacktestRequest
from neural_trader_tools.backtest.signals import Signals
from neural_trader_tools.backtest.simulation import decide
from neural_trader_tools.bus.events import SignalEvent, content_id, encode, subject_of
from neural_trader_tools.bus.local import LocalBus
from neural_trader_tools.bus.port import Bus
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.feed.ticks import BarTick

pytestmark = pytest.mark.anyio

NOW = datetime(2012, 6, 1, tzinfo=UTC)
TREND = """
def signals(bars, fast: int = 5):
    close = bars["close"]
    return (close / close.rolling_mean(fast) - 1).clip(-1, 1)
"""
BUYS = "class A(Strategy):\n  def on_bar(self, bar): self.buy(quantity=1)\n"
WEIGHS = "def weights(bars):\n  return bars\n"


@pytest.fixture
async def bus() -> AsyncGenerator[Bus]:
    local = LocalBus()
    yield local
    await local.aclose()


def request(source: str = TREND, *symbols: str) -> BacktestRequest:
    return BacktestRequest(
        source=source, symbols=symbols or ("MSFT",), params={"fast": 7} if source is TREND else {}
    )


def tick(bars: Prices, number: int, **changes: float) -> BarTick:
    values = {name: float(getattr(bars, name)[number]) for name in VALUES} | changes
    time_ns = int(bars.times[number]) * 1_000
    return BarTick("MSFT", "1d", **values, ts_event_ns=time_ns, ts_recv_ns=time_ns)


async def publish(bus: Bus, bar: BarTick) -> None:
    await bus.publish(subject_of(bar), bar, content_id(encode(bar)))


async def test_arriving_bars_are_decided_on_as_in_a_backtest_and_said_once(
    bus: Bus, sandbox: LocalSandbox, archive: Archive
) -> None:
    clock = SimulatedClock(NOW)
    known = archive.bars("MSFT", "1d", as_of=NOW).height
    bars = Prices.from_frame("MSFT", archive.bars("MSFT", "1d").head(known + 6))
    _, decided = await decide(sandbox, request(), bars, cash=1e5)
    late = [tick(bars, known - 2), tick(bars, known)]
    arriving = [
        *late,
        *(tick(bars, known + n) for n in range(3)),
        tick(bars, known + 2, close=1.0),
        tick(bars, known + 3),
    ]
    for bar in arriving[:3]:  # before it starts: some of it the archive knows
        await publish(bus, bar)
    async with await Signals.open(bus, sandbox, archive, clock, request(), "trend", bars=100) as signals:
        assert signals.known == 100
        for bar in arriving[3:]:
            await publish(bus, bar)
        await publish(bus, tick(bars, known + 4, open=0.0))
        await publish(bus, tick(bars, known + 5))
        said: list[SignalEvent] = []
        async for one in signals:
            said.append(one)
            if one.ts_event_ns == int(bars.times[known + 5]) * 1_000:
                break
        assert (signals.told, signals.passed, signals.refused) == (5, 2, 1)
    expected = [*decided[known : known + 4]]
    assert [one.exposure for one in said[:4]] == pytest.approx(expected, abs=1e-12)
    assert np.ptp([one.exposure for one in said]) > 0
    assert all(one.ts_known_ns == int(NOW.timestamp()) * 1_000_000_000 for one in said)
    newest = await bus.newest("signal.trend.MSFT")
    assert newest is not None
    assert newest.event == said[-1]
    stored = await bus.span("signal")

    async with await Signals.open(bus, sandbox, archive, clock, request(), "trend", bars=100) as again:
        repeated = await first(again, 3)
    assert [one.exposure for one in repeated] == [one.exposure for one in said[:3]]
    assert await bus.span("signal") == stored


async def first(signals: Signals, count: int) -> list[SignalEvent]:
    said: list[SignalEvent] = []
    async for one in signals:
        said.append(one)
        if len(said) == count:
            break
    return said


async def test_a_symbol_that_only_the_feed_has_begins_without_history(
    bus: Bus, sandbox: LocalSandbox, archive: Archive, msft: Prices
) -> None:
    holds = "import numpy as np\ndef signals(b): return np.full(b.height, 0.5 if b.height > 1 else np.nan)"
    async with await Signals.open(
        bus, sandbox, archive, SimulatedClock(NOW), request(holds, "NEWCO"), "x"
    ) as signals:
        assert signals.known == 0
        for number in range(2):
            bar = tick(msft, number)
            renamed = BarTick(
                "NEWCO", "1d", bar.open, bar.high, bar.low, bar.close, bar.volume, bar.ts_event_ns, 0
            )
            await publish(bus, renamed)
        [said] = await first(signals, 1)
    assert (said.exposure, said.ts_event_ns) == (0.5, int(msft.times[1]) * 1_000)


async def test_what_gives_no_target_for_one_symbol_is_refused(
    bus: Bus, sandbox: LocalSandbox, archive: Archive, msft: Prices
) -> None:
    clock = SimulatedClock(NOW)
    with pytest.raises(StrategyError, match="portfolio_unsupported"):
        await Signals.open(bus, sandbox, archive, clock, request(WEIGHS), "x")
    with pytest.raises(InputError, match="one_symbol"):
        await Signals.open(bus, sandbox, archive, clock, request(TREND, "MSFT", "AAPL"), "x")
    with pytest.raises(InputError):
        await Signals.open(bus, sandbox, archive, clock, request(), "x" * 100)
    async with await Signals.open(bus, sandbox, archive, clock, request(BUYS), "x") as signals:
        await publish(bus, tick(msft, len(msft) - 1))
        with pytest.raises(StrategyError, match="orders_no_signals"):
            await first(signals, 1)
    assert await bus.newest("signal.x.MSFT") is None
