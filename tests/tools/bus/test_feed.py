"""What a feed publishes: bars and gaps, once, and never at the feed's cost."""

from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from tests.tools.bus.test_contract import quote

from neural_trader_governance.errors import NetworkError
from neural_trader_tools.bus.events import BusEvent
from neural_trader_tools.bus.feed import FeedPublisher
from neural_trader_tools.bus.local import LocalBus
from neural_trader_tools.bus.port import Message, Published
from neural_trader_tools.market.feed.bars import BarBuilder
from neural_trader_tools.market.feed.compaction import open_journal
from neural_trader_tools.market.feed.pipeline import Pipeline
from neural_trader_tools.market.feed.ticks import SECOND_NS, BarTick, Gap, Trade

pytestmark = pytest.mark.anyio
START_NS = 1_763_652_600 * SECOND_NS


def bar(number: int, symbol: str = "BRK.B") -> BarTick:
    return BarTick(symbol, "1m", 1.0, 2.0, 0.5, 1.5 + number, 10.0, number, number + 1)


async def test_bars_and_gaps_are_published_and_again_is_a_duplicate() -> None:
    bus = LocalBus()
    publish = FeedPublisher(bus)
    events: list[BusEvent] = [bar(1), quote(1), Gap("", 1, 2, "reconnect"), bar(2)]
    await publish(events)
    await publish(events)
    assert (publish.published, publish.duplicates, (await bus.span("market")).last) == (6, 3, 3)
    newest = await bus.newest("market.bar.BRK%2EB.1m")
    assert newest is not None
    assert newest.event == bar(2)
    everything = FeedPublisher(bus, "all")
    await everything(events)
    assert (everything.published, everything.duplicates) == (4, 3)


async def test_an_event_that_no_subject_can_name_is_left_out() -> None:
    bus = LocalBus()
    publish = FeedPublisher(bus)
    await publish([bar(1, "x" * 100), bar(2)])
    assert (publish.published, publish.refused) == (1, 1)


async def test_what_a_pipeline_makes_reaches_the_bus_while_it_comes_and_goes(tmp_path: Path) -> None:
    class Shaky(LocalBus):
        """Is away every other time."""

        calls = 0

        async def publish_all(self, messages: Sequence[Message]) -> list[Published]:
            self.calls += 1
            if self.calls % 2:
                raise NetworkError("bus_unreachable", "nobody answers", "wait")
            return await super().publish_all(messages)

    bus = Shaky()
    pipeline = Pipeline(open_journal(tmp_path), bars=[BarBuilder("1s")], now_ns=lambda: START_NS)
    channel, publish = pipeline.subscribe("bus"), FeedPublisher(bus)
    for second in range(6):
        at_ns = START_NS + second * SECOND_NS
        await pipeline.take([Trade("AAPL", 190.0 + second * 0.01, 1.0, at_ns, at_ns, str(second), "V")])
        await publish(await channel.receive_all())
    await pipeline.close()
    async with await bus.subscribe("market.bar.AAPL.1s", start=1) as bars:
        with anyio.fail_after(5):
            got = [(await bars.receive()).event for _ in range(5)]
    assert [each.open for each in got if isinstance(each, BarTick)] == [190.0 + n * 0.01 for n in range(5)]
