"""A live feed as the exchange's market: from a vendor's stream to a fill, and nothing at an old price."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from tests.tools.brokers.exchange.venues import Venue
from tests.tools.market.loopback import alpaca as alpaca_service
from tests.tools.market.loopback import alpaca_stream
from tests.tools.market.loopback.alpaca_stream import AlpacaStreamLoopback

from neural_trader_tools.brokers.exchange.api.live import LiveMarket
from neural_trader_tools.brokers.exchange.api.service import ExchangeService
from neural_trader_tools.brokers.exchange.keeping import Keeper
from neural_trader_tools.brokers.exchange.market import recorded_instants
from neural_trader_tools.brokers.exchange.orders import VenueOrder
from neural_trader_tools.bus.feed import FeedPublisher
from neural_trader_tools.bus.local import LocalBus
from neural_trader_tools.market.feed.compaction import open_journal
from neural_trader_tools.market.feed.pipeline import Pipeline
from neural_trader_tools.market.feed.recorded import recorded_ticks
from neural_trader_tools.market.feed.ticks import (
    SECOND_NS,
    BarTick,
    Gap,
    Quote,
    Tick,
    Trade,
    format_ns,
)
from neural_trader_tools.market.providers.alpaca_stream import AlpacaStream
from neural_trader_tools.market.providers.settings import AlpacaSettings
from neural_trader_tools.market.providers.stream import StreamRequest

pytestmark = pytest.mark.anyio
T0 = 1_704_200_400 * SECOND_NS
"""2024-01-02T13:00:00Z, on the venues' clock."""


class Live:
    """An exchange with a live market, and the machine's time in the test's hand."""

    def __init__(self, folder: Path) -> None:
        self.now_ns = T0
        self.venue = Venue(start_ns=T0)
        self.service = ExchangeService(self.venue.exchange, Keeper(folder / "exchange.db", 1))
        self.market = LiveMarket(self.service, ["A", "B"], clock_ns=lambda: self.now_ns, stale_s=15)

    def tell(self, event: Tick | Gap) -> None:
        self.market.keep(self.venue.exchange)
        self.market.see(self.venue.exchange, event)

    def order(self, side: str, qty: int, **terms: Any) -> VenueOrder:
        """As a request does: first it is brought to the present."""
        self.market.keep(self.venue.exchange)
        return self.venue.order(side, qty, **terms)

    def at(self, seconds: float) -> None:
        self.now_ns = T0 + round(seconds * SECOND_NS)


def quote(at_s: float, bid: float = 9.9, ask: float = 10.0, symbol: str = "A") -> Quote:
    made = T0 + round(at_s * SECOND_NS)
    return Quote(symbol, bid, 500.0, ask, 500.0, made, made + 1, "V")


def trade(at_s: float, price: float, symbol: str = "A") -> Trade:
    made = T0 + round(at_s * SECOND_NS)
    return Trade(symbol, price, 1000.0, made, made + 1, "1", "V")


@pytest.fixture
def live(tmp_path: Path) -> Live:
    return Live(tmp_path)


def test_a_fresh_quote_fills_and_a_stale_one_never_does(live: Live) -> None:
    first = live.order("buy", 1, limit_price="11")
    assert first.status == "new", "nothing was told yet: it waits"
    live.at(1)
    live.tell(quote(1))
    assert (first.status, live.order("buy", 10).status) == ("filled", "filled")
    live.at(16.5)  # the quote is 15.5 seconds old
    waiting = live.order("buy", 10)
    assert (waiting.status, waiting.filled) == ("new", 0)
    live.at(20)
    live.tell(quote(4, ask=5.0))  # comes late, and is older than the bound
    assert (waiting.filled, live.market.passed["stale"]) == (0, 1)
    live.tell(quote(20, ask=10.5))
    assert waiting.status == "filled"
    assert waiting.average_price == Decimal("10.5")


def test_stops_and_limits_wait_while_the_feed_is_silent(live: Live) -> None:
    live.tell(quote(0))
    limit = live.order("buy", 10, limit_price="9.95")
    live.at(60)
    live.market.keep(live.venue.exchange)
    assert live.venue.exchange.registry.book("A").tape.is_halted
    live.tell(trade(60, 9.5))
    assert (limit.status, limit.average_price) == ("filled", Decimal("9.95"))
    assert live.venue.exchange.registry.book("B").tape.is_halted, "of B nothing was told"


def test_after_a_gap_nothing_trades_until_the_next_price(live: Live) -> None:
    live.tell(quote(0))
    live.tell(quote(0, symbol="B"))
    live.at(1)
    live.tell(Gap("", T0, T0 + SECOND_NS, "reconnect"))
    orders = [live.order("buy", 1), live.order("buy", 1, symbol="B")]
    assert [each.status for each in orders] == ["new", "new"]
    live.tell(quote(1))
    assert [each.status for each in orders] == ["filled", "new"]


def test_what_comes_out_of_order_twice_or_from_the_future_is_passed_over(live: Live) -> None:
    live.at(5)
    live.tell(quote(5))
    live.tell(quote(4, ask=1.0))
    live.tell(quote(500, ask=1.0))
    bar = BarTick("B", "1m", 20.0, 21.0, 19.0, 20.5, 1000.0, T0 - 60 * SECOND_NS, T0)
    live.tell(bar)
    live.tell(bar)
    live.tell(BarTick("A", "1m", 1.0, 1.0, 1.0, 1.0, 1000.0, T0 - 60 * SECOND_NS, T0))
    assert live.market.taken == 2
    assert live.market.passed == {"out of order": 2, "from the future": 1, "made of ticks": 1}
    live.at(70)  # a bar's price is fresh until the next bar is due
    live.market.keep(live.venue.exchange)
    tapes = live.venue.exchange.registry.books
    assert (tapes["A"].tape.is_halted, tapes["B"].tape.is_halted) == (True, False)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["quote", "trade", "buy", "gap"]),
            st.floats(0, 30),  # time passes
            st.floats(0, 40),  # how late it comes
        ),
        max_size=30,
    )
)
def test_no_fill_is_ever_at_a_price_older_than_the_bound(steps: list[tuple[str, float, float]]) -> None:
    now_ns, told = T0, dict[int, int]()
    venue = Venue(start_ns=T0, cash=10_000_000)
    market = LiveMarket(
        ExchangeService(venue.exchange, Keeper(Path(":memory:"), 1)),
        ["A"],
        clock_ns=lambda: now_ns,
        stale_s=15,
    )
    for number, (what, passes, late) in enumerate(steps):
        now_ns += round(passes * SECOND_NS)
        made_ns = now_ns - round(late * SECOND_NS)
        price = (1000 + number) / 100  # each its own, so that a fill says what it met
        told[round(price * 10_000)] = made_ns
        market.keep(venue.exchange)
        if what == "quote":
            market.see(venue.exchange, Quote("A", price, 900.0, price, 900.0, made_ns, now_ns, "V"))
        elif what == "trade":
            market.see(venue.exchange, Trade("A", price, 90_000.0, made_ns, now_ns, "1", "V"))
        elif what == "gap":
            market.see(venue.exchange, Gap("A", made_ns, now_ns, "lost"))
        elif market.taken:  # before, a market order is refused: nothing says what it would cost
            venue.order("buy", 1, time_in_force="gtc")
        venue.drain()
    for execution in venue.executions:
        assert 0 <= execution.time_ns - told[execution.price] <= 15 * SECOND_NS


async def test_from_a_vendors_stream_over_the_bus_to_a_fill_and_again_from_the_record(
    tmp_path: Path,
) -> None:
    live, orders = Live(tmp_path), list[VenueOrder]()
    server, bus = AlpacaStreamLoopback(), LocalBus(tmp_path / "bus.db", on_disk=("market",))
    words = {"key_id": SecretStr(alpaca_service.KEY), "secret_key": SecretStr(alpaca_service.SECRET)}
    pipeline = Pipeline(open_journal(tmp_path / "feed"), now_ns=lambda: live.now_ns)
    channel, publish = pipeline.subscribe("bus"), FeedPublisher(bus, "all")
    with server.serve():
        adapter = AlpacaStream(
            AlpacaSettings.model_validate({"stream_url": server.url, "feed": "iex"} | words)
        )
        async with adapter.open(StreamRequest(("A",))) as stream, live.service.running():
            prices = await bus.subscribe("market.>", policy="drop_oldest")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(live.market.follow, prices)
                orders.append(
                    await live.service.call(lambda _: live.venue.order("buy", 100, limit_price="11"))
                )
                assert orders[0].status == "new"
                told = [
                    alpaca_stream.quote("A", 9.99, 10.01, format_ns(T0)),
                    alpaca_stream.trade("A", 10.0, format_ns(T0), 1),
                ]
                server.publish(told)
                await pipeline.receive(await stream.receive(), stream.decode)
                await publish(await channel.receive_all())
                with anyio.fail_after(20):
                    while live.market.taken < 2:  # noqa: ASYNC110 - the exchange tells nobody of ticks
                        await anyio.sleep(0.005)
                tasks.cancel_scope.cancel()
    order = orders[0]
    assert order.filled > 0
    await pipeline.close()
    await bus.aclose()

    again = Venue(start_ns=T0 - 1)
    waiting = again.order("buy", 100, limit_price="11")
    for instant in recorded_instants(recorded_ticks(tmp_path / "feed", 0)):
        instant.happen(again.exchange)
    assert (waiting.filled, waiting.value) == (order.filled, order.value), "the same ticks, the same fill"
