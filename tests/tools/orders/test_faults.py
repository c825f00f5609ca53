"""The fault matrix: what goes wrong between a desk and its exchange, one kind at a time, every other request.

In the end every order is at both or ended at the desk as never taken, none is there twice, and fills, cash
and positions agree. The figures of the longer run (`pytest -m slow -s` of this file) are in docs/orders.md.
"""

import json
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from tests.tools.brokers.exchange.api.conftest import Served
from tests.tools.brokers.test_alpaca import Trouble
from tests.tools.orders.test_venues import LONG, AtTheExchange, trading

from neural_trader_governance.errors import NeuralTraderError
from neural_trader_governance.terms.orders import Order, OrderState
from neural_trader_tools.orders.machine import WORKING

pytestmark = pytest.mark.anyio
LATENCY = 50_000_000
"""Nanoseconds from a request to the book, where requests race with the market."""
APART = timedelta(seconds=31)


class Sometimes(Trouble):
    """Meets requests of some methods with one kind of fault, every second one by chance."""

    def __init__(self, kind: str, methods: tuple[str, ...], status: int = 0) -> None:
        super().__init__()
        self.kind, self.methods, self.status = kind, methods, status
        self.random = random.Random(11)  # noqa: S311 - faults, not keys
        self.met = 0
        self.on = False

    def wrap(self, app: Any) -> Any:
        inner = super().wrap(app)

        async def sometimes(scope: Any, receive: Any, send: Any) -> None:
            method = scope.get("method", "")
            if self.on and method in self.methods and self.random.random() < 0.5:
                self.met += 1
                if self.kind == "drop":
                    self.drop = {method}
                else:
                    setattr(self, self.kind, {method: self.status})
            try:
                await inner(scope, receive, send)
            finally:
                self.before, self.after, self.drop = {}, {}, set()

        return sometimes


FAULTS: dict[str, Callable[[], Sometimes]] = {
    "429": lambda: Sometimes("before", ("POST", "PATCH", "DELETE", "GET"), 429),
    "504, not taken": lambda: Sometimes("before", ("POST", "PATCH", "DELETE"), 504),
    "504, and taken": lambda: Sometimes("after", ("POST", "PATCH", "DELETE"), 504),
    "connection dropped, and taken": lambda: Sometimes("drop", ("POST", "PATCH", "DELETE")),
    "look-ups fail": lambda: Sometimes("after", ("GET",), 500),
}


@asynccontextmanager
async def at(floor: Any, path: Path, trouble: Trouble, **rules: Any) -> AsyncGenerator[AtTheExchange]:
    with Served(path, wrap=trouble.wrap, more=("AAPL",), **rules).serve() as venue:
        await anyio.to_thread.run_sync(lambda: venue.quote(430.40, 430.47, symbol="AAPL"))
        async with trading(floor, venue) as there:
            yield there


async def arrive(there: AtTheExchange) -> None:
    """Lets everything that is on its way arrive."""
    await anyio.to_thread.run_sync(
        lambda: there.venue.market(lambda exchange: exchange.advance(exchange.now_ns + LATENCY))
    )


async def put(there: AtTheExchange, intent: Any) -> Order | None:
    there.floor.clock.advance(APART)
    try:
        return await there.desk.order(await there.submit(intent))
    except NeuralTraderError:  # such as a replacement of what has ended
        return None


async def trade(there: AtTheExchange, intent: Any, count: int) -> None:
    """Sends orders that fill, fill in part, rest, are canceled and replaced, in turn."""
    for number in range(count):
        kind = ("fills", "rests", "part", "replaced")[number % 4]
        price = Decimal("430.47") if kind in {"fills", "part"} else Decimal(400) + Decimal(number) / 100
        if kind == "part":
            await there.quote(430.47, size=1)
        quantity = 2 if kind == "part" else 1  # cash is for 100 rounds, however much stays in doubt meanwhile
        order = await put(there, intent(type="limit", limit_price=price, quantity=quantity))
        if kind == "part":
            await there.quote(430.47)
        if order is None or order.state not in WORKING:
            continue
        name = order.client_order_id
        if kind == "replaced":
            await put(there, intent(type="limit", limit_price=price + 1, quantity="2", replaces=name))
        elif kind == "rests":
            await there.desk.cancel(name, there.floor.agent)


async def settle(there: AtTheExchange) -> Counter[str]:
    """Reconciles until nothing is in doubt, holds the books to the exchange's; returns what became of all."""
    found: list[Order] = []
    for _ in range(20):
        await there.reconcile()
        found = await there.desk.orders(limit=10_000)
        if not any(order.state in {OrderState.SUBMITTED, OrderState.UNKNOWN} for order in found):
            break
    ours = {order.client_order_id: order for order in found}
    registry = there.venue.venue.exchange.registry
    theirs = [order for order in registry.orders.values() if order.symbol == "AAPL"]
    assert max(Counter(order.client_order_id for order in theirs).values()) == 1
    for order in theirs:
        mine = ours[order.client_order_id]
        assert (mine.state in WORKING, mine.filled_quantity * 10**9) == (order.is_open, order.filled), order
    there_too = {order.client_order_id for order in theirs}
    away = [order for name, order in ours.items() if name not in there_too]
    assert all(order.state in {OrderState.REJECTED, OrderState.CANCELED} for order in away)
    assert not any(order.filled_quantity for order in away)
    executed = there.venue.service.keeper.executions("paper", limit=10_000, newest_first=False)
    with there.floor.store.read() as connection:
        booked = connection.execute("SELECT execution_id FROM fills").fetchall()
    assert Counter(each.id for each in executed) == Counter(row[0] for row in booked)
    there.floor.clock.advance(LONG)
    assert await there.compare() == []
    return Counter(str(order.state) for order in found) + Counter({"never taken": len(away)})


async def run(floor: Any, intent: Any, path: Path, fault: str, count: int) -> None:
    trouble = FAULTS[fault]()
    async with at(floor, path, trouble) as there:
        trouble.on = True
        await trade(there, intent, count)
        with floor.store.read() as connection:
            query = (
                'SELECT COUNT(*) FROM audit_entries WHERE instr(CAST(entry AS TEXT), \'"state":"unknown"\')'
            )
            (unclear,) = connection.execute(query).fetchone()
        trouble.on = False
        states = await settle(there)
    assert trouble.met > 0
    print(json.dumps({"fault": fault, "met": trouble.met, "unclear": unclear, **states}))  # noqa: T201 - figures


@pytest.mark.parametrize("fault", FAULTS)
async def test_whatever_goes_wrong_nothing_is_lost_and_nothing_is_twice(
    floor: Any, intent: Any, tmp_path: Path, fault: str
) -> None:
    await run(floor, intent, tmp_path / "exchange.db", fault, 8)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
async def test_whatever_goes_wrong_for_long_nothing_is_lost_and_nothing_is_twice(
    floor: Any, intent: Any, tmp_path: Path, fault: str
) -> None:
    await run(floor, intent, tmp_path / "exchange.db", fault, 100)


@pytest.mark.parametrize(("size", "state", "filled"), [(100, "filled", 5), (2, "canceled", 2)])
async def test_a_fill_that_comes_after_the_cancel_was_asked_is_booked(
    floor: Any, intent: Any, tmp_path: Path, size: int, state: str, filled: int
) -> None:
    async with at(floor, tmp_path / "exchange.db", Trouble(), latency_ns=LATENCY) as there:
        order = await put(there, intent(type="limit", limit_price="429.00", quantity="5"))
        assert order is not None
        await arrive(there)
        asked = await there.desk.cancel(order.client_order_id, floor.agent)
        assert asked.state == OrderState.PENDING_CANCEL
        await there.quote(428.95, size=size)
        await arrive(there)
        await settle(there)
        ended = await there.desk.order(order.client_order_id)
        assert (str(ended.state), ended.filled_quantity) == (state, filled)


@pytest.mark.parametrize("faster", ["market", "replacement"])
async def test_a_replacement_and_a_fill_race_and_one_of_them_happens(
    floor: Any, intent: Any, tmp_path: Path, faster: str
) -> None:
    async with at(floor, tmp_path / "exchange.db", Trouble(), latency_ns=LATENCY) as there:
        old = await put(there, intent(type="limit", limit_price="429.00", quantity="5"))
        assert old is not None
        await arrive(there)
        new = await put(
            there, intent(type="limit", limit_price="428.00", quantity="5", replaces=old.client_order_id)
        )
        assert new is not None
        if faster == "replacement":
            await arrive(there)
        await there.quote(428.95)
        await arrive(there)
        await settle(there)
        states = [str((await there.desk.order(each.client_order_id)).state) for each in (old, new)]
    assert states == (["filled", "rejected"] if faster == "market" else ["replaced", "accepted"])
