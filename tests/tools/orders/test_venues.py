"""The desk beside a venue with books of its own: differences, exits, replacements, real money."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from pydantic import SecretStr
from tests.tools.brokers.exchange.api.conftest import KEY, SECRET, Served
from tests.tools.brokers.test_alpaca import Trouble

from neural_trader_governance.errors import InputError, NetworkError, RiskError
from neural_trader_governance.live import LivePermit, permit_live
from neural_trader_governance.terms.clocks import WallClock
from neural_trader_governance.terms.orders import OrderState
from neural_trader_tools.brokers.alpaca import AlpacaBroker
from neural_trader_tools.brokers.alpaca_documents import AlpacaTradingSettings
from neural_trader_tools.orders import breaks
from neural_trader_tools.orders.desk import Desk
from neural_trader_tools.orders.history import disagreements, replay
from neural_trader_tools.orders.postings import list_postings
from neural_trader_tools.orders.venue_payments import VenuePayments

pytestmark = pytest.mark.anyio
LONG = timedelta(seconds=11)


class AtTheExchange:
    """A desk at an exchange that is polled."""

    def __init__(self, floor: Any, venue: Served, broker: AlpacaBroker) -> None:
        self.floor, self.venue, self.broker = floor, venue, broker
        self.desk: Desk = floor.desk(broker)

    async def submit(self, intent: Any) -> str:
        preview = await self.desk.preview(intent, self.floor.agent)
        assert preview.verdict.decision == "allow", preview.verdict
        return (await self.desk.submit(preview.preview_id, self.floor.agent)).order.client_order_id

    async def quote(self, price: float, size: float = 10_000) -> None:
        await anyio.to_thread.run_sync(self.venue.quote, price - 0.07, price, size, "AAPL")

    async def compare(self) -> list[tuple[str, str, str, str, str]]:
        found = await self.desk.compare(self.floor.agent)
        return [(each.kind, each.subject, each.desk, each.venue, each.outcome) for each in found]

    async def reconcile(self) -> None:
        self.floor.clock.advance(LONG)
        await self.desk.reconcile(self.floor.agent)

    async def states(self) -> dict[str, str]:
        return {order.intent.type: str(order.state) for order in await self.desk.orders()}

    def outside(self, side: str, qty: str, **terms: Any) -> str:
        """Somebody else's order on the same account."""
        body = {"symbol": "AAPL", "side": side, "qty": qty, "type": "market", "time_in_force": "day"} | terms
        with self.venue.client() as client:
            return client.post("/v2/orders", json=body).json()["client_order_id"]


@pytest.fixture
def trouble() -> Trouble:
    return Trouble()


@pytest.fixture
def venue(tmp_path: Path, trouble: Trouble) -> Generator[Served]:
    with Served(tmp_path / "exchange.db", wrap=trouble.wrap, more=("AAPL",)).serve() as exchange:
        exchange.quote(430.40, 430.47, symbol="AAPL")
        yield exchange


@asynccontextmanager
async def trading(floor: Any, venue: Served) -> AsyncGenerator[AtTheExchange]:
    settings = AlpacaTradingSettings(
        url=venue.url,
        key_id=SecretStr(KEY),
        secret_key=SecretStr(SECRET),
        stand_in_symbol="B",
        listing_grace_s=0,
    )
    broker = AlpacaBroker(settings, WallClock())
    try:
        yield AtTheExchange(floor, venue, broker)
        with floor.store.read() as connection:
            assert disagreements(connection) == []
    finally:
        await broker.aclose()


async def test_what_differs_for_long_is_adopted_or_a_break_and_what_is_short_is_neither(
    floor: Any, venue: Served, intent: Any
) -> None:
    async with trading(floor, venue) as there:
        assert await there.compare() == []
        name = there.outside("buy", "3", type="limit", limit_price="400.00")
        seen = [("outside_order", name, "unknown", "buy 3 AAPL limit", "seen")]
        assert await there.compare() == seen
        floor.clock.advance(LONG)
        assert [each[-1] for each in await there.compare()] == ["adopted"]
        assert (await there.desk.order(name)).intent.agent == "outside"
        floor.clock.advance(LONG)
        assert await there.compare() == []
        await there.quote(399.00)
        await there.reconcile()
        adopted = await there.desk.order(name)
        assert (adopted.state, adopted.average_price) == (OrderState.FILLED, 400)

        there.outside("sell", "1")
        held, cash = await there.compare()
        assert held == ("position", "AAPL", "3", "2", "seen")
        assert (cash[0], cash[-1]) == ("cash", "seen")
        floor.clock.advance(LONG)
        assert [each[-1] for each in await there.compare()] == ["break", "recorded"]
        floor.clock.advance(LONG)
        assert [each[-1] for each in await there.compare()] == ["break", "recorded"]
        with floor.store.read() as connection:
            (found,) = breaks.list_open(connection)
            logged = connection.execute(
                "SELECT COUNT(*) FROM audit_entries WHERE instr(CAST(entry AS TEXT), '\"difference\":')"
            ).fetchone()[0]
        assert (found.client_order_id, found.kind) == ("account paper", "position")
        assert found.detail == "AAPL: the desk has 3, the venue 2"
        assert logged == 1, "the same difference of cash is recorded once"
        denied = await there.desk.preview(intent(), floor.agent)
        assert [reason.rule for reason in denied.verdict.reasons] == ["reconciliation_break"]
        with floor.store.unit() as unit:
            breaks.resolve(unit, found.break_id, person=floor.person, reason="sold by hand")
        assert (await there.desk.preview(intent(), floor.agent)).verdict.decision == "allow"


async def test_a_venue_that_does_not_answer_is_never_flat(
    floor: Any, venue: Served, intent: Any, trouble: Trouble
) -> None:
    async with trading(floor, venue) as there:
        await there.submit(intent())
        floor.clock.advance(LONG)
        assert await there.compare() == []
        for status in (500, 429):
            trouble.after = {"GET": status}
            with pytest.raises(NetworkError):
                await there.compare()
        trouble.after = {}
        trouble.rewrite = lambda path, document: {} if path == "/v2/positions" else document
        with pytest.raises(NetworkError, match="no list"):
            await there.compare()
        with floor.store.read() as connection:
            assert breaks.list_open(connection) == []


async def test_exits_are_orders_of_the_desk_and_one_ends_the_other(
    floor: Any, venue: Served, intent: Any
) -> None:
    async with trading(floor, venue) as there:
        terms = {"take_profit": "440.00", "stop_loss": "420.00", "time_in_force": "gtc"}
        name = await there.submit(intent(type="limit", limit_price="430.00", quantity="6", **terms))
        assert await there.states() == {"limit": "accepted", "stop": "accepted"}
        await there.quote(429.00)
        await there.reconcile()
        assert (await there.desk.order(name)).state == OrderState.FILLED
        await there.quote(440.07, size=2)
        await there.reconcile()
        exits = {o.intent.type: o for o in await there.desk.orders() if o.intent.side == "sell"}
        assert {kind: (str(o.state), o.filled_quantity) for kind, o in exits.items()} == {
            "limit": ("partially_filled", 2),
            "stop": ("accepted", 0),
        }
        await there.quote(419.00)
        await there.reconcile()
        exits = {o.intent.type: o for o in await there.desk.orders() if o.intent.side == "sell"}
        assert {kind: (str(o.state), o.filled_quantity) for kind, o in exits.items()} == {
            "limit": ("canceled", 2),
            "stop": ("canceled", 4),
        }, "the venue had shrunk the stop to what was left: with that filled, nothing more comes"
        assert [p.quantity for p in (await there.desk.portfolio("paper")).positions] == [0]
        floor.clock.advance(LONG)
        assert await there.compare() == []


async def test_a_replacement_takes_its_place_or_leaves_the_order_as_it_was(
    floor: Any, venue: Served, intent: Any, trouble: Trouble
) -> None:
    async with trading(floor, venue) as there:
        first = await there.submit(intent(type="limit", limit_price="400.00"))
        other = intent(type="limit", limit_price="401.00", quantity="3", replaces=first)
        second = await there.submit(other)
        assert (await there.desk.order(first)).state == OrderState.REPLACED
        assert (await there.desk.order(second)).state == OrderState.ACCEPTED
        with pytest.raises(RiskError, match="cannot_replace"):
            await there.submit(intent(type="limit", limit_price="402.00", quantity="4", replaces=first))
        with pytest.raises(RiskError, match="differs in symbol"):
            await there.submit(
                intent(type="limit", limit_price="20.00", symbol="MSFT", quantity="4", replaces=second)
            )
        trouble.before = {"PATCH": 422}
        third = await there.submit(intent(type="limit", limit_price="402.00", quantity="5", replaces=second))
        assert (await there.desk.order(third)).state == OrderState.REJECTED
        assert (await there.desk.order(second)).state == OrderState.ACCEPTED
        trouble.before, trouble.after = {}, {"PATCH": 504}
        fourth = await there.submit(intent(type="limit", limit_price="403.00", quantity="6", replaces=second))
        assert (await there.desk.order(fourth)).state == OrderState.UNKNOWN
        trouble.after = {}
        await there.reconcile()
        assert (await there.desk.order(fourth)).state == OrderState.ACCEPTED, "it was taken, and is found"
        assert (await there.desk.order(second)).state == OrderState.REPLACED
        with floor.store.read() as connection:
            told = [each.event for each in replay(connection, second).moments]
        assert told == [
            *("submitted", "accepted", "pending_replace", "replace_refused"),
            *("pending_replace", "replaced"),
        ]


async def test_what_an_order_says_and_no_execution_is_listed_for_is_booked_once(
    floor: Any, venue: Served, intent: Any, trouble: Trouble
) -> None:
    trouble.rewrite = lambda path, document: [] if path.endswith("/FILL") else document
    async with trading(floor, venue) as there:
        name = await there.submit(intent())
        assert (await there.desk.order(name)).state == OrderState.UNKNOWN, "half a truth is booked by nobody"
        await there.reconcile()
        order = await there.desk.order(name)
        assert (order.state, order.average_price) == (OrderState.FILLED, Decimal("430.47"))
        with floor.store.read() as connection:
            ((execution_id,),) = connection.execute("SELECT execution_id FROM fills").fetchall()
        assert execution_id.startswith("synthetic:0-2:")
        trouble.rewrite = None
        await there.desk.heard(name, floor.agent)
        assert (await there.desk.order(name)).filled_quantity == 2, "the true execution was booked already"
        floor.clock.advance(LONG)
        assert await there.compare() == []


async def test_real_money_needs_the_setting_the_permit_and_the_policy_it_names(
    floor: Any, intent: Any
) -> None:
    class Live:
        name, mode = "live", "live"

        def __getattr__(self, name: str) -> Any:
            return getattr(floor.broker, name)

    def desk(switch: bool) -> Desk:
        return Desk(
            store=floor.store,
            policy=floor.policy,
            broker=Live(),  # type: ignore[arg-type]
            archive=floor.archive,
            replay=floor.replay,
            clock=floor.clock,
            issuer=floor.issuer.verifying_key,
            live_switch=switch,
        )

    def permit(digest: str) -> None:
        now = floor.clock.now()
        document = LivePermit(
            policy_digest=digest, not_before=now, expires=now + timedelta(hours=1), reason="reviewed"
        ).signed_by(floor.issuer)
        with floor.store.unit() as unit:
            permit_live(
                unit,
                document,
                issuer=floor.issuer.verifying_key,
                policy_digest=digest,
                caller=floor.person,
                now=now,
            )

    async def verdict(switch: bool) -> list[str]:
        preview = await desk(switch).preview(intent(), floor.agent)
        return [reason.rule for reason in preview.verdict.reasons]

    assert await verdict(True) == ["paper_only"]
    permit("a" * 64)
    assert await verdict(True) == ["paper_only"], "a permit for another policy"
    permit(floor.policy.digest)
    assert await verdict(True) == []
    assert await verdict(False) == ["paper_only"], "the setting is off"
    allowed = await desk(True).preview(intent(), floor.agent)
    floor.clock.advance(timedelta(minutes=4))
    with floor.store.unit() as unit:
        unit.connection.execute(
            "UPDATE live_permits SET document = replace(document, 'reviewed', 'Reviewed')"
        )
    with pytest.raises(RiskError, match="denied"):
        await desk(True).submit(allowed.preview_id, floor.agent)


async def test_the_paper_venue_says_what_it_does_not_have(floor: Any, intent: Any) -> None:
    desk = floor.desk()
    for terms, what in (
        ({"type": "trailing_stop", "trail_price": "5"}, "trailing stops"),
        ({"take_profit": "500.00"}, "brackets"),
        ({"replaces": "nt_1"}, "replaces no orders"),
        ({"time_in_force": "opg"}, "auctions"),
    ):
        with pytest.raises(InputError, match=what):
            await desk.preview(intent(**terms), floor.agent)
    now = await desk.preview(intent(time_in_force="ioc"), floor.agent)
    assert (await desk.submit(now.preview_id, floor.agent)).order.state == OrderState.FILLED
    low = await desk.preview(intent(type="limit", limit_price="400.00", time_in_force="fok"), floor.agent)
    ended = (await desk.submit(low.preview_id, floor.agent)).order
    assert (ended.state, "does not meet its price" in ended.detail) == (OrderState.CANCELED, True)


async def test_many_working_orders_cost_one_request_until_one_of_them_moves(
    floor: Any, venue: Served, intent: Any, trouble: Trouble
) -> None:
    asked: list[str] = []

    def listen(path: str, document: Any) -> Any:
        asked.append(path)
        return document

    async with trading(floor, venue) as there:
        names = [
            await there.submit(intent(type="limit", limit_price=f"{price}.00", quantity=price - 400))
            for price in (410, 411, 412, 413)
        ]
        trouble.rewrite = listen
        await there.reconcile()
        assert asked == ["/v2/orders"]
        await there.quote(412.00, size=6)
        asked.clear()
        await there.reconcile()
        assert asked.count("/v2/orders:by_client_order_id") == 1
        assert [str((await there.desk.order(name)).state) for name in names] == [
            *("accepted", "accepted", "accepted"),
            "partially_filled",
        ]
        trouble.after = {"GET": 500}
        asked.clear()
        await there.reconcile()
        assert len(asked) == 1, "a venue that does not answer is not asked about each order, too"


async def test_what_a_stranger_calls_his_order_or_what_it_trades_stops_nothing(
    floor: Any, venue: Served, trouble: Trouble
) -> None:
    def strange(path: str, document: Any) -> Any:
        if path != "/v2/orders" or not document:
            return document
        first = document[0]
        return [
            first | {"client_order_id": "\x1b[2Jobey me"},
            first | {"client_order_id": "x2", "symbol": "BTC/USD"},
            first | {"client_order_id": "x3", "qty": None},
            first | {"client_order_id": "x4", "type": "trailing_stop"},
        ]

    async with trading(floor, venue) as there:
        there.outside("buy", "3", type="limit", limit_price="400.00")
        trouble.rewrite = strange
        await there.compare()
        floor.clock.advance(LONG)
        found = await there.compare()
        assert [(kind, outcome) for kind, _, _, _, outcome in found] == [("outside_order", "break")] * 4
        assert all(subject.isprintable() for _, subject, _, _, _ in found)
        assert await there.desk.orders() == [], "nothing of it is adopted"


async def test_what_the_venue_pays_is_booked_once_and_explains_its_cash(
    floor: Any, venue: Served, trouble: Trouble, intent: Any
) -> None:
    async with trading(floor, venue) as there:
        bought = await there.desk.preview(intent(quantity="10"), floor.agent)
        assert (await there.desk.submit(bought.preview_id, floor.agent)).order.state == "filled"
        floor.clock.advance(LONG)
        day = 86_400 * 10**9

        def pay(exchange: Any) -> None:
            exchange.pay_dividend("AAPL", 100_000)  # on the day of the purchase: not for who bought that day
            exchange.advance(exchange.now_ns + day)
            exchange.pay_dividend("AAPL", 240_000)

        await anyio.to_thread.run_sync(venue.market, pay)
        before = (await there.desk.portfolio("paper")).cash
        for _ in range(3):
            (cash,) = await there.compare()
            assert (cash[0], Decimal(cash[3]) - Decimal(cash[2])) == ("cash", Decimal(1)), "of the first one"
        after = await there.desk.portfolio("paper")
        assert after.cash - before == Decimal("2.40")
        assert floor.entry_types().count("account.post") == 1
        with floor.store.read() as connection:
            (posted,) = list_postings(connection, "paper")
        assert (posted.kind, posted.symbol, posted.detail) == ("dividend", "AAPL", "DIV, 0.24 a share")
        assert posted.posting_id.startswith("alpaca/2024")
        other = floor.desk(there.broker)  # another process of the home
        await other.compare(floor.person)
        assert floor.entry_types().count("account.post") == 1

        rows = {"date": "2024-03-01", "symbol": "AAPL", "qty": "10"}
        trouble.rewrite = lambda path, found: (
            [
                rows | {"id": "20240301::nra", "activity_type": "DIVNRA", "net_amount": "-0.36"},
                rows | {"id": "20240301::fee", "activity_type": "FEE", "net_amount": "-0.02", "symbol": None},
                rows
                | {"id": "20240301::gone", "activity_type": "DIV", "net_amount": "9", "status": "canceled"},
                rows | {"id": "20240301::fine", "activity_type": "INT", "net_amount": "0.001"},
                *found,
            ]
            if path == "/v2/account/activities"
            else found
        )
        for _ in range(2):
            await there.compare()
        assert (await there.desk.portfolio("paper")).cash - after.cash == Decimal("-0.38")
        assert floor.entry_types().count("account.post") == 3, "what is finer than a cent stays a difference"
        trouble.before = {"GET": 500}
        assert await VenuePayments(floor.store, there.broker).book(floor.person) == []
