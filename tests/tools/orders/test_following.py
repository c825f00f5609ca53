"""News of orders over a stream that loses, repeats, delays and cuts: the books end as the exchange's do."""

import json
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from pydantic import SecretStr
from tests.tools.brokers.exchange.api.conftest import KEY, SECRET, Served

from neural_trader_governance.errors import RiskError
from neural_trader_governance.terms.clocks import WallClock
from neural_trader_governance.terms.orders import OrderIntent, OrderState
from neural_trader_tools.brokers.alpaca import AlpacaBroker
from neural_trader_tools.brokers.alpaca_documents import AlpacaTradingSettings
from neural_trader_tools.orders import accounts
from neural_trader_tools.orders.desk import Desk
from neural_trader_tools.orders.following import Following
from neural_trader_tools.orders.hearing import Hearing
from neural_trader_tools.orders.history import disagreements

pytestmark = pytest.mark.anyio
FAST = 30
"""So many times faster than the wall do the follower's pauses pass."""
FAULTS = ("lost", "twice", "late", "cut")


class Trouble:
    """Stands between the exchange's stream and us; `chance` of each message to meet a fault."""

    def __init__(self) -> None:
        self.chance = 0.0
        self.kinds: tuple[str, ...] = FAULTS
        self.met: Counter[str] = Counter()
        self.random = random.Random(7)  # noqa: S311 - faults, not keys
        self.counted = 0
        self.refuses = False

    def wrap(self, app: Any) -> Any:
        async def between(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "websocket":
                await app(scope, receive, send)
                return
            if self.refuses:
                raise ConnectionResetError
            held: list[Any] = []

            async def deliver(message: Any) -> None:
                is_news = message["type"] == "websocket.send" and "trade_updates" in json.loads(
                    message["text"]
                ).get("stream", "")
                fault = ""
                if is_news and self.random.random() < self.chance:
                    fault = self.kinds[self.counted % len(self.kinds)]
                    self.counted += 1
                    self.met[fault] += 1
                if fault == "late":
                    held.append(message)
                    return
                if fault == "cut":
                    raise ConnectionResetError
                for _ in range({"lost": 0, "twice": 2}.get(fault, 1)):
                    await send(message)
                while held and is_news:
                    await send(held.pop())

            await app(scope, receive, deliver)

        return between


class Followed:
    """A desk at an exchange, followed."""

    def __init__(self, floor: Any, venue: Served, broker: AlpacaBroker) -> None:
        self.venue = venue
        self.hearing = Hearing(floor.home / "trade-updates.json", floor.clock)
        self.desk = Desk(
            store=floor.store,
            policy=floor.policy,
            broker=broker,
            archive=floor.archive,
            replay=floor.replay,
            clock=floor.clock,
            issuer=floor.issuer.verifying_key,
            deaf=self.hearing.why_deaf,
        )
        self.agent = floor.agent
        self.store = floor.store
        self.following = Following(
            self.desk,
            broker,
            self.hearing,
            floor.agent,
            sleep=lambda seconds: anyio.sleep(seconds / FAST),
            monotonic=lambda: time.monotonic() * FAST,
        )

    async def quote(self, bid: float, ask: float, size: float = 10_000) -> None:
        await anyio.to_thread.run_sync(self.venue.quote, bid, ask, size, "AAPL")

    async def submit(self, intent: OrderIntent) -> str:
        """Previews and submits; where the desk is deaf, the same preview again once it hears."""
        preview = await self.desk.preview(intent, self.agent)
        while True:
            try:
                return (await self.desk.submit(preview.preview_id, self.agent)).order.client_order_id
            except RiskError as error:
                if error.code != "venue_unheard":
                    raise
            await anyio.sleep(0.005)

    async def until(self, client_order_id: str, state: OrderState) -> None:
        with anyio.fail_after(60):
            while (await self.desk.order(client_order_id)).state != state:  # noqa: ASYNC110 - of its store
                await anyio.sleep(0.01)

    async def heard(self) -> None:
        with anyio.fail_after(60):
            while self.hearing.why_deaf():  # noqa: ASYNC110 - it is a file
                await anyio.sleep(0.005)

    def booked(self) -> Counter[tuple[str, Decimal]]:
        with self.store.read() as connection:
            rows = connection.execute("SELECT execution_id, quantity FROM fills").fetchall()
            assert disagreements(connection) == []
        return Counter((str(row[0]), Decimal(row[1]).scaleb(-9)) for row in rows)

    def executed(self) -> Counter[tuple[str, Decimal]]:
        """What the exchange executed."""
        found = self.venue.service.keeper.executions(
            "paper", order_id=None, after=0, limit=10_000, newest_first=False
        )
        return Counter((each.id, Decimal(each.quantity).scaleb(-9)) for each in found)


@pytest.fixture
def trouble() -> Trouble:
    return Trouble()


@pytest.fixture
def venue(tmp_path: Path, trouble: Trouble) -> Generator[Served]:
    with Served(tmp_path / "exchange.db", wrap=trouble.wrap, more=("AAPL",)).serve() as exchange:
        exchange.quote(430.40, 430.47, symbol="AAPL")
        yield exchange


@asynccontextmanager
async def followed(floor: Any, venue: Served, poll_s: float = 3600) -> AsyncGenerator[Followed]:
    settings = AlpacaTradingSettings(
        url=venue.url, key_id=SecretStr(KEY), secret_key=SecretStr(SECRET), stand_in_symbol="B"
    )
    broker = AlpacaBroker(settings, WallClock())
    there = Followed(floor, venue, broker)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(there.following.keep)
            await there.heard()
            reconciled = there.desk.keep_reconciled
            tasks.start_soon(lambda: reconciled(floor.agent, every_s=poll_s, found=there.following.found))
            yield there
            tasks.cancel_scope.cancel()
    finally:
        await broker.aclose()


async def test_a_fill_that_the_stream_tells_of_is_booked_without_polling(
    floor: Any, venue: Served, intent: Any
) -> None:
    async with followed(floor, venue) as there:
        name = await there.submit(intent(type="limit", limit_price="429.00", quantity="5"))
        await there.quote(428.90, 428.95, 3)
        await there.until(name, OrderState.PARTIALLY_FILLED)
        await there.quote(428.80, 428.85, 9)
        await there.until(name, OrderState.FILLED)
        assert (await there.desk.order(name)).average_price == 429
        assert there.booked() == there.executed()


async def test_what_happened_while_the_stream_was_away_is_caught_up_with_at_its_return(
    floor: Any, venue: Served, intent: Any, trouble: Trouble
) -> None:
    async with followed(floor, venue) as there:
        name = await there.submit(intent(type="limit", limit_price="429.00", quantity="5"))
        trouble.chance, trouble.kinds = 1.0, ("cut",)
        trouble.refuses = True
        await there.quote(428.90, 428.95, 3)
        with anyio.fail_after(60):
            while not there.hearing.why_deaf():  # noqa: ASYNC110 - it is a file
                await anyio.sleep(0.005)
        preview = await there.desk.preview(intent(), there.agent)
        with pytest.raises(RiskError, match="venue_unheard"):
            await there.desk.submit(preview.preview_id, there.agent)
        assert (await there.desk.order(name)).filled_quantity == 0
        trouble.chance, trouble.refuses = 0.0, False
        await there.until(name, OrderState.PARTIALLY_FILLED)
        assert there.following.connections >= 2
        await there.quote(428.90, 428.95)
        await there.until(name, OrderState.FILLED)
        submitted = await there.submit(intent())
        await there.until(submitted, OrderState.FILLED)
        assert there.booked() == there.executed()


async def test_a_stream_that_stands_and_tells_nothing_is_left_for_another(
    floor: Any, venue: Served, intent: Any, trouble: Trouble
) -> None:
    trouble.chance, trouble.kinds = 1.0, ("lost",)
    async with followed(floor, venue, poll_s=0.05) as there:
        name = await there.submit(intent(type="limit", limit_price="429.00"))
        await there.quote(428.90, 428.95)
        await there.until(name, OrderState.FILLED)  # polling found it
        with anyio.fail_after(60):
            while there.following.connections < 2:  # noqa: ASYNC110 - it is a counter
                await anyio.sleep(0.01)


async def test_whatever_the_stream_does_the_books_end_as_the_exchange_s(
    floor: Any, venue: Served, intent: Any, trouble: Trouble
) -> None:
    trouble.chance = 0.5
    async with followed(floor, venue, poll_s=0.5) as there:
        names: list[str] = []
        for number in range(8):
            price = Decimal("430.00") - number
            names.append(await there.submit(intent(type="limit", limit_price=price, quantity=3 + number % 3)))
            if number % 2:
                await there.quote(float(price), float(price), 4)
        canceled = await there.submit(intent(type="limit", limit_price="400.00"))
        await there.desk.cancel(canceled, there.agent)
        for _ in range(8):
            await there.quote(421.00, 421.10, 5)
        for name in names:
            await there.until(name, OrderState.FILLED)
        await there.until(canceled, OrderState.CANCELED)
        assert there.booked() == there.executed()
        portfolio = await there.desk.portfolio("paper")
        with floor.store.read() as connection:
            fills = [fill for name in names for fill in accounts.fills_of(connection, name)]
    assert set(trouble.met) == set(FAULTS), "each fault was met"
    assert portfolio.positions[0].quantity == sum(fill.quantity for fill in fills)
    assert portfolio.cash == 100_000 + sum(accounts.cash_movement(fill) for fill in fills)


async def test_of_two_processes_of_a_home_one_listens_and_the_other_takes_over(
    floor: Any, venue: Served, intent: Any
) -> None:
    async with followed(floor, venue) as second:
        other = Hearing(floor.home / "trade-updates.json", floor.clock)
        with other.alone() as is_ours:
            assert not is_ours
        assert other.why_deaf() == ""
        assert second.following.connections == 1
    with other.alone() as is_ours:
        assert is_ours
    floor.clock.advance(timedelta(seconds=11))
    assert "any more" in other.why_deaf()
