"""Our ccxt adapter against two exchanges' APIs on this machine, with all going wrong that does there."""

import json
import random
import secrets
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr
from tests.tools.brokers.ccxt_loopback import KEY, SECRET, TradingLoopback
from tests.tools.market.loopback.server import Fault

from neural_trader_governance.errors import ConfigurationError, IntegrityError, NetworkError
from neural_trader_governance.terms.clocks import WallClock
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_tools.brokers.ccxt_broker import CcxtBroker
from neural_trader_tools.brokers.ccxt_venues import CcxtTradingSettings, Recorded

pytestmark = pytest.mark.anyio

VENUES = ("binance", "kraken")
LOOK_UP = {"binance": "/api/v3/order", "kraken": "/0/private/OpenOrders"}
POST = {"binance": "/api/v3/order", "kraken": "/0/private/AddOrder"}


class Desk:
    """An adapter, and the record of a desk behind it."""

    def __init__(self, venue: str, url: str | None, **settings: Any) -> None:
        self.records: dict[str, Recorded] = {}
        chosen = CcxtTradingSettings.model_validate(
            {"exchange": venue, "url": url, "key_id": SecretStr(KEY), "secret_key": SecretStr(SECRET)}
            | settings
        )
        self.broker = CcxtBroker(chosen, WallClock(), self.records.get)

    def recorded(self, age_s: float = 0.0, **terms: Any) -> str:
        """Writes an order down as the desk does, and returns its id."""
        name = f"nt_{secrets.token_hex(8)}"
        made = datetime.now(UTC) - timedelta(seconds=age_s)
        self.records[name] = Recorded(_intent(**terms), made)
        return name

    async def send(self, name: str) -> Any:
        return await self.broker.submit(name, self.records[name].intent)


def _intent(**terms: Any) -> OrderIntent:
    words = {
        "symbol": "BTC/USD",
        "side": "buy",
        "quantity": "0.25",
        "type": "limit",
        "limit_price": "30000.1",
        "time_in_force": "gtc",
        "agent": "a1",
        "reason": "a test",
    }
    merged = {name: value for name, value in (words | terms).items() if value is not None}
    return OrderIntent.model_validate(merged)


@pytest.fixture(scope="module")
def server() -> Generator[TradingLoopback]:
    loopback = TradingLoopback()
    with loopback.serve():
        yield loopback


@pytest.fixture
def exchange(server: TradingLoopback) -> TradingLoopback:
    server.reset()
    return server


@pytest.fixture(params=VENUES)
def venue(request: pytest.FixtureRequest) -> str:
    return request.param


@asynccontextmanager
async def _desk(venue: str, exchange: TradingLoopback, **settings: Any) -> AsyncGenerator[Desk]:
    desk = Desk(venue, exchange.url, **settings)
    try:
        yield desk
    finally:
        await desk.broker.aclose()


async def test_an_order_is_taken_under_our_id_filled_in_parts_and_reported_to_the_last_digit(
    venue: str, exchange: TradingLoopback
) -> None:
    async with _desk(venue, exchange) as desk:
        name = desk.recorded()
        taken = await desk.send(name)
        assert taken.state == "accepted", taken.detail
        standing = exchange.orders[0]
        assert standing.carried.replace("_", "") == name.replace("_", "")
        assert (standing.quantity, standing.price) == (Decimal("0.25"), Decimal("30000.1"))
        exchange.fill(standing, "0.1", "30000.1", "4.8000161")
        partly = await desk.broker.order(name)
        assert partly is not None
        assert partly.state == "partially_filled"
        exchange.fill(standing, "0.15", "29999.9", "7.19")
        done = await desk.broker.order(name)
    if venue == "kraken":
        assert exchange.made[0]["oflags"] == "fciq", "fees are asked for in money"
    assert done is not None
    assert done.state == "filled"
    assert [(fill.quantity, fill.price) for fill in done.fills] == [
        (Decimal("0.1"), Decimal("30000.1")),
        (Decimal("0.15"), Decimal("29999.9")),
    ]
    assert done.fills[0].fee == Decimal("4.800017")  # the next whole micro: never less than was charged
    assert len({fill.execution_id for fill in done.fills}) == 2


async def test_what_the_package_would_round_is_refused_with_the_nearest_that_it_would_not(
    venue: str, exchange: TradingLoopback
) -> None:
    async with _desk(venue, exchange) as desk:
        fine = desk.recorded(quantity="0.123456789")
        report = await desk.send(fine)
        assert report.state == "rejected"
        near = "0.12345 or 0.12346" if venue == "binance" else "0.12345678 or 0.12345679"
        assert near in report.detail
        if venue == "kraken":  # its step is 0.1
            report = await desk.send(desk.recorded(limit_price="30000.15"))
            assert "30000.1 or 30000.2" in report.detail
        assert desk.broker.unsupported(_intent(quantity="0.000000001")) != ""
        assert desk.broker.unsupported(_intent()) == ""
    assert exchange.made == []


@pytest.mark.parametrize("how", ["504", "dropped", "cut"])
async def test_an_answer_lost_after_acceptance_is_unknown_sent_once_and_found_by_its_id(
    venue: str, how: str, exchange: TradingLoopback
) -> None:
    fault = {
        "504": Fault(POST[venue], status=504),
        "dropped": Fault(POST[venue], drop_after=5),
        "cut": Fault(POST[venue], cut_after=20),
    }[how]
    async with _desk(venue, exchange) as desk:
        await desk.broker.books()
        exchange.faults = [fault]
        name = desk.recorded()
        if how == "cut":  # it cannot be read, but says that it is one: the look-up decides
            assert (await desk.send(name)).state == "accepted"
        else:
            with pytest.raises(NetworkError, match="looks the order up"):
                await desk.send(name)
        exchange.faults = []
        found = await desk.broker.close_unknown(name)
        again = await desk.send(name)  # a second time is a look-up
    assert (found.state, again.state) == ("accepted", "accepted")
    assert len(exchange.made) == len(exchange.orders) == 1


FAULTS = ("429", "504 before", "504 after", "dropped after", "look-ups")


@pytest.mark.parametrize("rounds", [5, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", FAULTS)
async def test_each_fault_in_half_of_all_requests_loses_nothing_and_makes_nothing_twice(
    venue: str, kind: str, rounds: int, exchange: TradingLoopback
) -> None:
    chance = random.Random(kind + venue)  # noqa: S311 - faults, not keys
    told: dict[str, Any] = {}
    met = unclear = 0

    def trouble(is_on: bool) -> None:
        path = POST[venue] if kind != "look-ups" else LOOK_UP[venue]
        exchange.deaf, exchange.faults = {}, []
        if is_on and kind in {"429", "504 before"}:
            exchange.deaf = {f"POST {path}": int(kind[:3])}
        elif is_on and kind == "look-ups":
            exchange.deaf = {f"{'GET' if venue == 'binance' else 'POST'} {path}": 500}
        elif is_on:
            drop = 5 if kind.startswith("dropped") else None
            exchange.faults = [Fault(path, times=1, status=504 if drop is None else 200, drop_after=drop)]

    async with _desk(venue, exchange) as desk:
        await desk.broker.books()
        for _ in range(rounds):
            name = desk.recorded(side=chance.choice(["buy", "sell"]))
            is_on = chance.random() < 0.5
            met += is_on
            trouble(is_on)
            try:
                told[name] = (await desk.send(name)).state
            except NetworkError:
                unclear += 1
                told[name] = "unknown"
            trouble(is_on=False)
            if exchange.orders and chance.random() < 0.3 and exchange.orders[-1].status == "open":
                exchange.fill(exchange.orders[-1], "0.25", "30000")
        exchange.ahead_s = 36
        for name, state in told.items():
            if state == "unknown":
                told[name] = (await desk.broker.close_unknown(name)).state
        ended = {name: await desk.broker.order(name) for name in told}
    facts = {"venue": venue, "fault": kind, "met": met, "unclear": unclear, "there": len(exchange.orders)}
    print(json.dumps(facts))  # noqa: T201 - figures
    there = [each.carried.replace("_", "") for each in exchange.orders]
    taken = {name.replace("_", "") for name, state in told.items() if state not in {"rejected", "canceled"}}
    assert len(there) == len(set(there)), "twice"
    assert set(there) == taken, "what the desk was told is what there is"
    for name, report in ended.items():
        assert (report is not None) == (name.replace("_", "") in taken)


async def test_too_many_requests_and_no_money_are_refusals_and_nothing_is_sent_again(
    venue: str, exchange: TradingLoopback
) -> None:
    async with _desk(venue, exchange) as desk:
        await desk.broker.books()
        exchange.deaf = {f"POST {POST[venue]}": 429}
        assert (await desk.send(desk.recorded())).state == "rejected"
        exchange.deaf = {}
        if venue == "kraken":
            refused = await desk.send(desk.recorded(quantity="1000"))
            assert refused.state == "rejected"
            assert "Insufficient funds" in refused.detail
    assert exchange.orders == []


async def test_an_order_that_never_arrived_is_over_only_when_it_could_not_be_taken_any_more(
    venue: str, exchange: TradingLoopback
) -> None:
    async with _desk(venue, exchange) as desk:
        name = desk.recorded()
        with pytest.raises(NetworkError, match="may arrive until"):
            await desk.broker.close_unknown(name)
        exchange.ahead_s = 36  # past the life of the request, and past the grace
        assert (await desk.broker.close_unknown(name)).state == "canceled"
        # The process that was stopped before it sent goes on now: the exchange refuses it.
        late = await desk.send(name)
    assert late.state == "rejected"
    assert exchange.orders == []


async def test_an_order_whose_time_is_over_is_not_sent(venue: str, exchange: TradingLoopback) -> None:
    async with _desk(venue, exchange) as desk:
        report = await desk.send(desk.recorded(age_s=29))
    assert "its time was over" in report.detail
    assert exchange.made == []


async def test_a_fill_during_a_cancel_is_not_lost(venue: str, exchange: TradingLoopback) -> None:
    async with _desk(venue, exchange) as desk:
        name, other = desk.recorded(), desk.recorded()
        await desk.send(name)
        await desk.send(other)
        exchange.fill(exchange.orders[0], "0.05", "30000", "0.5")
        partly = await desk.broker.cancel(name)
        exchange.fill(exchange.orders[1], "0.25", "30000", "2")
        filled = await desk.broker.cancel(other)
    assert (partly.state, partly.filled) == ("canceled", Decimal("0.05"))
    assert (filled.state, len(filled.fills)) == ("filled", 1)


async def test_executions_that_are_listed_late_are_waited_for_and_then_booked_as_the_order_says(
    venue: str, exchange: TradingLoopback
) -> None:
    async with _desk(venue, exchange, listing_grace_s=0) as desk:
        name = desk.recorded()
        await desk.send(name)
        exchange.fill(exchange.orders[0], "0.25", "30000")
        exchange.hidden_trades = True
        with pytest.raises(NetworkError, match="not listed every fill"):
            await desk.broker.order(name)
        synthetic = await desk.broker.order(name)
    assert synthetic is not None
    assert synthetic.fills[0].execution_id.startswith("synthetic:")


async def test_a_commission_in_coins_is_named_and_the_books_show_the_account(
    exchange: TradingLoopback,
) -> None:
    async with _desk("binance", exchange) as desk:
        name = desk.recorded()
        await desk.send(name)
        exchange.fill(exchange.orders[0], "0.25", "30000", "0.00025", "BTC")
        report = await desk.broker.order(name)
        assert report is not None
        assert report.fills[0].fee == 0
        assert "0.00025 BTC is not booked" in report.fills[0].rule
        exchange.balances = {"USD": "2500.12345678", "BTC": "0.24975", "XYZ": "7"}
        await desk.send(desk.recorded(side="sell", quantity="0.1"))
        books = await desk.broker.books()
    assert (books.cash, books.positions) == (Decimal("2500.12345678"), {"BTC/USD": Decimal("0.24975")})
    assert [(leg.side, leg.quantity, leg.limit_price) for leg in books.working] == [
        ("sell", Decimal("0.1"), Decimal("30000.1"))
    ]


async def test_stops_reach_the_exchange_as_stops(venue: str, exchange: TradingLoopback) -> None:
    async with _desk(venue, exchange) as desk:
        await desk.send(desk.recorded(type="stop", limit_price=None, stop_price="31000", side="buy"))
        await desk.send(desk.recorded(type="stop_limit", limit_price="30500", stop_price="31000"))
        await desk.send(desk.recorded(type="market", limit_price=None, time_in_force="day"))
        books = await desk.broker.books()
    assert [(each.stop, each.price) for each in exchange.orders] == [
        (Decimal(31000), Decimal(0)),
        (Decimal(31000), Decimal(30500)),
        (Decimal(0), Decimal(0)),
    ]
    assert [leg.type for leg in books.working] == ["stop", "stop_limit", "market"]


async def test_an_order_of_somebody_else_is_shown_under_its_own_id(
    venue: str, exchange: TradingLoopback
) -> None:
    async with _desk(venue, exchange) as desk:
        name = desk.recorded()
        await desk.send(name)
        exchange.orders[0].carried = "by-hand"
        books = await desk.broker.books()
        assert await desk.broker.order(name) is None
    assert [leg.client_order_id for leg in books.working] == [f"{venue}:{exchange.orders[0].id}"]


async def test_another_order_under_our_id_is_a_contradiction(venue: str, exchange: TradingLoopback) -> None:
    async with _desk(venue, exchange) as desk:
        name = desk.recorded()
        await desk.send(name)
        exchange.orders[0].quantity = Decimal("0.3")
        with pytest.raises(IntegrityError, match="foreign_order"):
            await desk.broker.order(name)


@pytest.mark.parametrize(
    ("terms", "why"),
    [
        ({"time_in_force": "day"}, "no sessions"),
        ({"symbol": "BTC/EUR"}, "quoted in USD"),
        ({"symbol": "DOGE/USD"}, "no open spot market"),
        ({"take_profit": "40000", "quantity": "1"}, "only single"),
        ({"type": "trailing_stop", "limit_price": None, "trail_price": "5"}, "only single"),
        ({"replaces": "nt_0123456789abcdef"}, "not replaced"),
    ],
)
async def test_what_an_exchange_does_not_take_is_refused_in_words(
    terms: dict[str, Any], why: str, exchange: TradingLoopback
) -> None:
    async with _desk("kraken", exchange) as desk:
        await desk.broker.books()
        assert why in desk.broker.unsupported(_intent(**terms))


async def test_binance_us_is_spoken_to_as_binance_is(exchange: TradingLoopback) -> None:
    async with _desk("binanceus", exchange) as desk:
        name = desk.recorded(time_in_force="fok")
        assert (await desk.send(name)).state == "accepted"
        assert (await desk.broker.cancel(name)).state == "canceled"
    assert (desk.broker.name, exchange.made[0]["timeInForce"]) == ("ccxt-binanceus", "FOK")


async def test_no_secret_and_no_signature_is_in_an_error(exchange: TradingLoopback) -> None:
    async with _desk("binance", exchange) as desk:
        exchange.faults = [Fault("/api/v3/account", status=504)]
        with pytest.raises(NetworkError) as caught:
            await desk.broker.books()
    assert SECRET not in str(caught.value)
    assert "signature" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"venue": "coinbase"}, "exchange_not_tradable"),
        ({"venue": "kraken", "url": None}, "no_sandbox"),
        ({"key_id": None}, "broker_key_missing"),
    ],
)
async def test_an_exchange_that_cannot_be_traded_safely_is_not_opened(
    settings: dict[str, Any], code: str, exchange: TradingLoopback
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Desk(**({"venue": "binance", "url": exchange.url} | settings))
    assert caught.value.code == code


async def test_the_sandbox_is_where_an_exchange_is_opened_unless_it_is_told_otherwise() -> None:
    paper = Desk("binance", None)
    live = Desk("kraken", None, sandbox=False)
    try:
        assert (paper.broker.mode, live.broker.mode) == ("paper", "live")
        assert "testnet" in paper.broker._exchange.urls["api"]["private"]  # pyright: ignore[reportPrivateUsage]
    finally:
        await paper.broker.aclose()
        await live.broker.aclose()
