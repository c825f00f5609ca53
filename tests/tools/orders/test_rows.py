"""The 38 rows of what an order layer must have, each by its number and name, each by a case of its own.

The names are those of the list that this layer was built from. Most rows have more tests elsewhere; here is
one case for each, so that none is forgotten.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.lowlevel
import pytest
from pydantic import SecretStr, ValidationError
from tests.tools.brokers.exchange.api.conftest import KEY, SECRET, Served
from tests.tools.brokers.exchange.venues import Venue

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import ExecutionError, IntegrityError, NetworkError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock, WallClock, format_time
from neural_trader_governance.terms.fills import Fill
from neural_trader_governance.terms.orders import Order, OrderIntent
from neural_trader_governance.terms.orders import OrderState as S
from neural_trader_tools.brokers.alpaca import AlpacaBroker
from neural_trader_tools.brokers.alpaca_documents import AlpacaTradingSettings
from neural_trader_tools.brokers.exchange.rules import RefusedError
from neural_trader_tools.brokers.port import BrokerReport, Leg, VenueBooks
from neural_trader_tools.brokers.synthetic import span_of, synthetic_fill
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.orders import accounts, book, breaks
from neural_trader_tools.orders.accounting.settlement import is_settlement_day, settlement_date
from neural_trader_tools.orders.comparison import LASTS, Comparison
from neural_trader_tools.orders.desk import SCHEMAS, Desk
from neural_trader_tools.orders.following import UNTOLD_S, Following
from neural_trader_tools.orders.hearing import Hearing
from neural_trader_tools.orders.history import disagreements, replay
from neural_trader_tools.orders.ledger import Ledger, ask_cancel, ask_replace
from neural_trader_tools.orders.machine import PREVIEW_TRANSITIONS, TABLE, WORKING, Event, follow
from neural_trader_tools.orders.reconciliation import IN_DOUBT_AFTER, Reconciliation
from neural_trader_tools.trading.halt import trading_halt

NOW = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)
AGENT = Caller(principal="test", agent="agent-1")
TEN = Decimal(10)
VENUE_WORDS = list(Event)[:7]
Case = Callable[..., Any]
ROWS: dict[int, tuple[str, Case]] = {}


def row(number: int, name: str) -> Callable[[Case], Case]:
    """Registers the case of a row."""

    def put(case: Case) -> Case:
        assert number not in ROWS, f"two cases for row {number}"
        ROWS[number] = (name, case)
        return case

    return put


class Scripted:
    """A venue that says what it is told to say, and counts what it is asked."""

    name = "scripted"
    mode: Literal["paper", "live"] = "paper"

    def __init__(self) -> None:
        self.known: dict[str, BrokerReport] = {}
        self.account: VenueBooks | None = None
        self.asked: list[tuple[str, str]] = []
        self.is_down = False

    def _answer(self, what: str, client_order_id: str) -> BrokerReport | None:
        self.asked.append((what, client_order_id))
        if self.is_down:
            raise NetworkError("connection_lost", "the wire was cut", "wait")
        return self.known.get(client_order_id)

    async def submit(self, client_order_id: str, intent: OrderIntent) -> BrokerReport:
        return self._answer("submit", client_order_id) or report(client_order_id, "accepted")

    async def replace(self, client_order_id: str, intent: OrderIntent) -> BrokerReport:
        return self._answer("replace", client_order_id) or report(client_order_id, "accepted")

    async def order(self, client_order_id: str) -> BrokerReport | None:
        return self._answer("order", client_order_id)

    async def cancel(self, client_order_id: str) -> BrokerReport:
        return self._answer("cancel", client_order_id) or report(client_order_id, "canceled")

    async def close_unknown(self, client_order_id: str) -> BrokerReport:
        return self._answer("close_unknown", client_order_id) or report(client_order_id, "rejected")

    def unsupported(self, intent: OrderIntent) -> str:
        return ""

    async def books(self) -> VenueBooks | None:
        self._answer("books", "")
        return self.account


def intent(**terms: Any) -> OrderIntent:
    given = {"symbol": "AAPL", "side": "buy", "quantity": "10", "agent": "agent-1", "reason": "a row"}
    return OrderIntent.model_validate(given | terms)


def fill(number: int, quantity: str, price: str = "100", order: str = "nt_1", **terms: Any) -> Fill:
    given: dict[str, Any] = {
        "execution_id": f"x{number}", "client_order_id": order, "symbol": "AAPL", "side": "buy",
        "quantity": quantity, "price": price, "fee": "0", "event_time": NOW, "known_time": NOW,
        "clock": "wall", "rule": "test",
    }  # fmt: skip
    return Fill.model_validate(given | terms)


def report(order: str, state: Any, *fills: Fill, **terms: Any) -> BrokerReport:
    return BrokerReport(client_order_id=order, state=state, fills=fills, **terms)


@dataclass
class Mini:
    """A store with one account, its ledger, and a scripted venue: no market, no policy."""

    path: Path
    archive_root: Path
    clock: SimulatedClock = field(default_factory=lambda: SimulatedClock(NOW))
    venue: Scripted = field(default_factory=Scripted)

    def __post_init__(self) -> None:
        key = SigningKey.generate("neural-trader.test/desk")
        self.store = Store.open(
            self.path / "desk.db", origin=key.name, signer=key, clock=self.clock, schemas=SCHEMAS
        )
        archive = Archive(self.archive_root, self.clock)
        replayed = ReplayClock(archive, self.path / "replay.db")
        replayed.set(NOW)
        self.ledger = Ledger(self.store, archive, replayed, self.clock)
        self.reconciliation = Reconciliation(self.store, self.venue, self.ledger, self.clock)
        self.comparison = Comparison(self.store, self.venue, archive, replayed, self.clock)
        with self.store.unit() as unit:
            accounts.open_account(
                unit.connection,
                account="paper",
                cash=Decimal(100_000),
                currency="USD",
                opened_time=format_time(NOW),
            )

    def send(self, name: str = "nt_1", **terms: Any) -> None:
        """Writes an order down as submitted, as the desk does before it sends it."""
        wanted = intent(**terms)
        with self.store.unit() as unit:
            if wanted.replaces is not None:
                ask_replace(unit, wanted, name, AGENT, now=self.clock.now())
            entry = AuditEntry.by(AGENT, EntryType.ORDER_INTENT, client_order_id=name)
            order = book.NewOrder(
                name, f"pv_{name}", wanted, "0" * 64, Decimal(1_000), self.clock.now(), unit.append(entry)
            )
            book.insert_order(unit.connection, order)

    def told(self, *reports: BrokerReport) -> Order:
        for each in reports:
            self.ledger.record_report(each, AGENT, False)
        return self.order(reports[-1].client_order_id)

    def order(self, name: str = "nt_1") -> Order:
        with self.store.read() as connection:
            return book.find_order(connection, name)

    def cancel(self, name: str = "nt_1") -> None:
        with self.store.unit() as unit:
            ask_cancel(unit, book.find_order(unit.connection, name), AGENT, now=self.clock.now(), why="row")

    def settle(self, **options: Any) -> None:
        anyio.run(lambda: self.reconciliation.settle(AGENT, **options))

    def compare(self) -> list[str]:
        return [each.outcome for each in anyio.run(lambda: self.comparison.compare(AGENT))]

    def cash(self) -> Decimal:
        with self.store.read() as connection:
            micros = connection.execute("SELECT cash FROM accounts").fetchone()[0]
        return Decimal(micros).scaleb(-6)

    def reserved(self) -> Decimal:
        with self.store.read() as connection:
            return accounts.reserved_cash(connection, "paper")

    def breaks(self) -> list[str]:
        with self.store.read() as connection:
            return [each.kind for each in breaks.list_open(connection)]

    def replays(self) -> bool:
        with self.store.read() as connection:
            return disagreements(connection) == []


@pytest.fixture
def mini(tmp_path: Path, sample_archive_root: Path) -> Generator[Mini]:
    made = Mini(tmp_path, sample_archive_root)
    yield made
    assert made.replays(), "the log, played again, ends where the orders stand"
    made.store.close()


@row(1, "explicit transition table")
def explicit_table() -> None:
    assert all(event in TABLE[state] for state in WORKING for event in VENUE_WORDS)
    with pytest.raises(ExecutionError, match="illegal_transition"):
        follow(S.FILLED, Event.CANCEL_ASKED)


@row(2, "fills legal after cancel/expire")
def fills_after_the_end(mini: Mini) -> None:
    for number, end in enumerate(("canceled", "expired")):
        name = f"nt_{number}"
        mini.send(name)
        late = fill(number, "4", order=name)
        after = mini.told(report(name, end), report(name, "partially_filled", late))
        assert (after.state, after.filled_quantity) == (end, 4)
        whole = fill(10 + number, "6", order=name)
        assert mini.told(report(name, end, late, whole)).state == S.FILLED


@row(3, "local DENIED is not venue REJECTED")
def denied_is_ours() -> None:
    assert S.DENIED not in TABLE
    assert not any(S.DENIED in cells.values() for cells in TABLE.values())
    assert PREVIEW_TRANSITIONS[S.DENIED] == frozenset()
    assert follow(S.SUBMITTED, Event.REJECTED) == S.REJECTED


@row(4, "three command outcomes: confirmed, refused, UNKNOWN")
def three_outcomes(mini: Mini) -> None:
    for name in ("nt_1", "nt_2", "nt_3"):
        mini.send(name)
    assert mini.told(report("nt_1", "accepted")).state == S.ACCEPTED
    assert mini.told(report("nt_2", "rejected")).state == S.REJECTED
    mini.ledger.record_unknown("nt_3", "no answer", AGENT)
    assert mini.order("nt_3").state == S.UNKNOWN
    assert mini.told(report("nt_3", "rejected")).state == S.REJECTED, "it was refused after all"


@row(5, "unknown is never resubmitted")
def never_resubmitted(mini: Mini) -> None:
    assert S.SUBMITTED not in {state for cells in TABLE.values() for state in cells.values()} - {S.SUBMITTED}
    mini.send()
    mini.ledger.record_unknown("nt_1", "no answer", AGENT)
    mini.clock.advance(IN_DOUBT_AFTER)
    mini.settle()
    assert mini.order().state in {S.CANCELED, S.REJECTED}
    assert [what for what, _ in mini.venue.asked] == ["close_unknown"]


@row(6, "client_order_id durable before send")
async def durable_before_send(floor: Any, intent: Any) -> None:
    venue, seen = Scripted(), list[S]()

    async def submit(client_order_id: str, wanted: OrderIntent) -> BrokerReport:
        with floor.store.read() as connection:
            seen.append(book.find_order(connection, client_order_id).state)
            assert replay(connection, client_order_id).moments[0].event == "submitted"
        return report(client_order_id, "accepted")

    venue.submit = submit  # type: ignore[method-assign]
    desk: Desk = floor.desk(venue)
    await desk.submit((await desk.preview(intent(), floor.agent)).preview_id, floor.agent)
    assert seen == [S.SUBMITTED]


@row(7, "duplicate-id answer -> look-up")
async def duplicate_id(tmp_path: Path) -> None:
    with Served(tmp_path / "x.db").serve() as venue:
        venue.quote(99.99, 100.00)
        broker = adapter(venue)
        first, again = [await broker.submit("nt_1", intent(symbol="A")) for _ in range(2)]
        await broker.aclose()
        assert first.fills[0].execution_id == again.fills[0].execution_id
        assert len(venue.venue.exchange.registry.orders) == 1


@row(8, "dedupe by execution id")
def dedupe(mini: Mini) -> None:
    mini.send()
    part = report("nt_1", "partially_filled", fill(1, "4"), fill(1, "4"))
    assert mini.told(part, part, part).filled_quantity == 4
    assert mini.cash() == 100_000 - 400


@row(9, "overfill policy")
def overfill(mini: Mini) -> None:
    mini.send()
    with pytest.raises(IntegrityError, match="overfill"):
        mini.told(report("nt_1", "filled", fill(1, "10"), fill(2, "1")))
    assert (mini.order().filled_quantity, mini.cash(), mini.breaks()) == (0, 100_000, ["overfill"])


@row(10, "out-of-order fills")
def out_of_order(mini: Mini) -> None:
    mini.send()
    first = mini.told(report("nt_1", "filled", fill(2, "6")))
    assert first.state == S.PARTIALLY_FILLED, "filled, it says, and not all of it is known"
    assert mini.told(report("nt_1", "partially_filled", fill(1, "4"))).state == S.FILLED


@row(11, "pending_cancel/pending_replace")
def pending(mini: Mini) -> None:
    mini.send()
    mini.told(report("nt_1", "accepted"))
    mini.cancel()
    assert mini.told(report("nt_1", "accepted")).state == S.PENDING_CANCEL, "asked for until it ended"
    mini.send("nt_2")
    mini.told(report("nt_2", "accepted"))
    mini.send("nt_3", replaces="nt_2")
    assert mini.told(report("nt_2", "accepted")).state == S.PENDING_REPLACE
    assert follow(S.PENDING_REPLACE, Event.CANCEL_ASKED) == S.PENDING_CANCEL


@row(12, "late updates of a replaced id")
def late_updates(mini: Mini) -> None:
    mini.send()
    mini.told(report("nt_1", "replaced"))
    for word in VENUE_WORDS[:2]:
        assert mini.told(report("nt_1", word)).state == S.REPLACED
    late = mini.told(report("nt_1", "replaced", fill(1, "3")))
    assert (late.state, late.filled_quantity) == (S.REPLACED, 3)


@row(13, "replace chains")
def chains(mini: Mini) -> None:
    mini.send("nt_1")
    for old, new in (("nt_1", "nt_2"), ("nt_2", "nt_3")):
        mini.told(report(old, "accepted"))
        mini.send(new, replaces=old)
        mini.told(report(new, "accepted"), report(old, "replaced"))
    assert [mini.order(name).state for name in ("nt_1", "nt_2", "nt_3")] == [
        *(S.REPLACED, S.REPLACED),
        S.ACCEPTED,
    ]
    with mini.store.read() as connection:
        found = book.replacement_of(connection, "nt_2")
        assert found is not None
        assert found.client_order_id == "nt_3"
    with pytest.raises(RiskError, match="cannot_replace"):
        mini.send("nt_4", replaces="nt_1")


@row(14, "cancel/fill race")
def cancel_fill_race(mini: Mini) -> None:
    mini.send()
    mini.told(report("nt_1", "accepted"))
    mini.cancel()
    after = mini.told(report("nt_1", "filled", fill(1, "10")), report("nt_1", "canceled"))
    assert (after.state, mini.cash()) == (S.FILLED, 99_000)
    mini.send("nt_2")
    mini.told(report("nt_2", "canceled"))
    mini.venue.known["nt_2"] = report("nt_2", "filled", fill(2, "10", order="nt_2"))
    mini.settle()
    assert mini.order("nt_2").state == S.CANCELED, "it ended, and is not polled"
    anyio.run(lambda: mini.reconciliation.settle_ended(AGENT))
    assert mini.order("nt_2").state == S.FILLED, "who was away looks at what ended meanwhile"


@row(15, "partial fills, VWAP")
def partial_fills(mini: Mini) -> None:
    mini.send()
    after = mini.told(report("nt_1", "filled", fill(1, "4", "100"), fill(2, "6", "105")))
    assert after.average_price == 103


@row(16, "bracket/OCO/OTO siblings")
def siblings(mini: Mini) -> None:
    mini.send(take_profit="120", stop_loss="90", type="limit", limit_price="100")
    same = {"symbol": "AAPL", "side": "sell", "quantity": TEN, "time_in_force": "day"}
    legs = tuple(
        Leg.model_validate({"client_order_id": name, **same, **terms})
        for name, terms in (
            ("gain", {"type": "limit", "limit_price": Decimal(120)}),
            ("loss", {"type": "stop", "stop_price": Decimal(90)}),
        )
    )
    mini.told(report("nt_1", "filled", fill(1, "10"), legs=legs))
    assert {mini.order(name).state for name in ("gain", "loss")} == {S.ACCEPTED}
    sold = fill(2, "10", order="gain", side="sell")
    mini.told(report("gain", "filled", sold, filled=TEN), report("loss", "canceled"))
    assert (mini.order("loss").state, mini.cash()) == (S.CANCELED, 100_000)


@row(17, "IOC/FOK/OPG/CLS cut-offs")
def time_in_force() -> None:
    with pytest.raises(ValidationError, match="ioc goes with market and limit"):
        intent(type="stop", stop_price="90", time_in_force="ioc")
    venue = Venue()
    venue.quote(99, 100)
    assert venue.order("buy", 1, limit_price="90", time_in_force="ioc").status == "canceled"


@row(18, "start-up reconciliation")
def at_start_up(mini: Mini) -> None:
    mini.send()
    mini.clock.advance(IN_DOUBT_AFTER)
    mini.venue.known["nt_1"] = report("nt_1", "filled", fill(1, "10"))

    async def start() -> None:
        with anyio.move_on_after(60):
            async with anyio.create_task_group() as tasks:
                await mini.reconciliation.keep_settling(
                    AGENT, every_s=60, found=lambda _: tasks.cancel_scope.cancel()
                )

    anyio.run(start)
    assert mini.order().state == S.FILLED


@row(19, "continuous open-order check")
def open_orders(mini: Mini) -> None:
    mini.send()
    mini.told(report("nt_1", "accepted"))
    mini.settle()
    assert mini.breaks() == ["missing_at_venue"]
    stranger = Leg(
        client_order_id="x", symbol="AAPL", side="buy", quantity=TEN, type="market", time_in_force="day"
    )
    mini.venue.account = VenueBooks(cash=Decimal(100_000), currency="USD", positions={}, working=(stranger,))
    assert mini.compare() == ["seen"]


@row(20, "in-flight time-out query")
def in_flight(mini: Mini) -> None:
    mini.send()
    mini.settle()
    assert mini.venue.asked == [], "another process may be about to send it"
    mini.clock.advance(IN_DOUBT_AFTER)
    mini.settle()
    assert mini.venue.asked == [("close_unknown", "nt_1")]


@row(21, 'single-order probe before "not found"')
def probe(mini: Mini) -> None:
    mini.send()
    mini.told(report("nt_1", "accepted"))
    mini.settle()
    assert mini.venue.asked == [("order", "nt_1")]
    assert mini.order().state == S.ACCEPTED, "not found is a contradiction, and no end"


@row(22, 'a failed position query is not "flat"')
def not_flat(mini: Mini) -> None:
    mini.send()
    mini.told(report("nt_1", "filled", fill(1, "10")))
    mini.venue.is_down = True
    with pytest.raises(NetworkError):
        mini.compare()
    assert mini.breaks() == []


@row(23, "recent-activity grace")
def grace(mini: Mini) -> None:
    mini.venue.account = VenueBooks(cash=Decimal(100_000), currency="USD", positions={"AAPL": Decimal(1)})
    assert mini.compare() == ["seen"]
    mini.clock.advance(LASTS / 2)
    mini.send()
    mini.told(report("nt_1", "accepted"))
    mini.clock.advance(LASTS / 2)
    assert mini.compare() == [], "an order moved a moment ago: positions are not compared"
    mini.told(report("nt_1", "canceled"))
    assert mini.compare() == ["seen"], "and it must last anew"
    mini.clock.advance(LASTS)
    assert (mini.compare(), mini.breaks()) == (["break"], ["position"])


@row(24, "deterministic synthetic fill ids")
def synthetic_ids() -> None:
    def made(listed: tuple[Fill, ...]) -> Fill:
        found = synthetic_fill(
            "nt_1", "AAPL", "buy", filled=TEN, average_price=Decimal(103), listed=listed,
            event_time=NOW, known_time=NOW,
        )  # fmt: skip
        assert found is not None
        return found

    assert made(()) == made(())
    rest = made((fill(1, "4", "100"),))
    assert (rest.quantity, rest.price, span_of(rest.execution_id)) == (6, 105, (4, 10))
    assert made(()).execution_id != rest.execution_id


@row(25, "adoption of outside orders")
def adoption(mini: Mini) -> None:
    stranger = Leg(
        client_order_id="x", symbol="AAPL", side="buy", quantity=TEN, type="market", time_in_force="day"
    )
    mini.venue.account = VenueBooks(cash=Decimal(100_000), currency="USD", positions={}, working=(stranger,))
    mini.compare()
    mini.clock.advance(LASTS)
    assert mini.compare() == ["adopted"]
    mini.venue.known["x"] = report("x", "filled", fill(1, "10", order="x"))
    mini.settle()
    assert (mini.order("x").state, mini.order("x").intent.agent) == (S.FILLED, "outside")


@row(26, "mute-stream detection")
async def mute(tmp_path: Path) -> None:
    seconds = [0.0]

    async def pass_by(wanted: float) -> None:
        seconds[0] += wanted
        await anyio.lowlevel.checkpoint()

    following = Following(
        None,  # type: ignore[arg-type] - nothing is looked up
        None,  # type: ignore[arg-type]
        Hearing(tmp_path / "x.json", WallClock()),
        AGENT,
        sleep=pass_by,
        monotonic=lambda: seconds[0],
        problem="",
    )
    following.found(type("Found", (), {"client_order_id": "nt_1"}))  # type: ignore[arg-type]
    with anyio.fail_after(60):
        ended = await following._mute()  # pyright: ignore[reportPrivateUsage]
    assert (ended.code, seconds[0] > UNTOLD_S) == ("stream_mute", True)


@row(27, "backfill on reconnect")
async def backfill(tmp_path: Path) -> None:
    asked: list[str] = []
    caught_up = anyio.Event()

    class Counting:
        async def catch_up(self, caller: Caller) -> None:
            asked.append(following.problem)
            caught_up.set()

    class Ending:
        def updates(self) -> Any:
            return self

        async def __aenter__(self) -> Any:
            return self

        async def __aexit__(self, *_: object) -> None:
            return None

        async def receive(self) -> Any:
            await caught_up.wait()
            raise NetworkError("connection_lost", "the wire was cut", "wait")

    hearing = Hearing(tmp_path / "x.json", WallClock())
    following = Following(Counting(), Ending(), hearing, AGENT)  # type: ignore[arg-type]
    for _ in range(2):
        ended = await following._connection()  # pyright: ignore[reportPrivateUsage]
        assert ended.code == "connection_lost"
        caught_up = anyio.Event()
    assert len(asked) == 2, "each connection asks for every working order"
    assert asked[0] == "it is not connected yet", "and counts as hearing once that is through"


@row(28, "no new orders while the stream is down")
async def deaf(floor: Any, intent: Any) -> None:
    desk: Desk = floor.desk(Scripted())
    preview = await desk.preview(intent(), floor.agent)
    desk.deaf = lambda: "the stream is down"
    with pytest.raises(RiskError, match="venue_unheard"):
        await desk.submit(preview.preview_id, floor.agent)
    assert await desk.orders() == []
    desk.deaf = lambda: ""
    assert (await desk.submit(preview.preview_id, floor.agent)).order.state == S.ACCEPTED


@row(29, "rate budget with cancels reserved")
async def rate_budget(tmp_path: Path) -> None:
    with Served(tmp_path / "x.db", per_minute=22).serve() as venue:
        venue.quote(99.99, 100.00)
        broker = adapter(venue)
        resting = intent(symbol="A", type="limit", limit_price="90")
        assert (await broker.submit("nt_1", resting)).state == "accepted"
        assert (await broker.submit("nt_2", resting)).state == "accepted"
        kept = await broker.submit("nt_3", resting)
        assert (kept.state, "kept for cancels" in kept.detail) == ("rejected", True)
        assert (await broker.cancel("nt_1")).state == "canceled"
        await broker.aclose()


@row(30, "Decimal, tick and lot checks, never silent rounding")
def ticks() -> None:
    for terms, why in (
        ({"type": "limit", "limit_price": "100.001"}, "not a multiple"),
        ({"quantity": "0.0000000001"}, "finer than 1e-9"),
        ({"quantity": 0.1 + 0.2}, "exact"),
        ({"type": "limit", "limit_price": "100", "take_profit": "110.005"}, "not a multiple"),
    ):
        with pytest.raises(ValidationError, match=why):
            intent(**terms)
    assert intent(type="limit", limit_price="0.1234").limit_price == Decimal("0.1234")


@row(31, "buying-power reservation")
def reservation(mini: Mini) -> None:
    mini.send()
    assert mini.reserved() == 1_000
    mini.told(report("nt_1", "partially_filled", fill(1, "4")))
    assert mini.reserved() == 600
    mini.told(report("nt_1", "canceled", fill(1, "4")))
    assert mini.reserved() == 0


@row(32, "settled vs unsettled cash, T+1")
def settled_cash() -> None:
    assert settlement_date(date(2026, 11, 23)) == date(2026, 11, 24)
    assert settlement_date(date(2026, 11, 20)) == date(2026, 11, 23), "over a weekend"


@row(33, "settlement calendar is not the trading calendar")
def settlement_calendar() -> None:
    columbus_day = date(2026, 10, 12)  # the exchange is open, the banks are not
    assert not is_settlement_day(columbus_day)
    assert settlement_date(date(2026, 10, 9)) == date(2026, 10, 13)


@row(34, "daily cash sync")
def cash_sync(mini: Mini) -> None:
    mini.venue.account = VenueBooks(cash=Decimal("99999.5"), currency="USD", positions={})
    assert mini.compare() == ["seen"]
    mini.clock.advance(LASTS)
    assert mini.compare() == ["recorded"]
    assert (mini.breaks(), mini.cash()) == ([], 100_000), "people are told; the books stay what fills made"


@row(35, "fees")
def fees(mini: Mini) -> None:
    mini.send()
    mini.told(report("nt_1", "filled", fill(1, "10", fee="0.011")))
    assert mini.cash() == 100_000 - Decimal("1000.02"), "rounded to the cent, against the account"


@row(36, "splits, dividends, symbol change")
def corporate_actions(mini: Mini) -> None:
    mini.send()
    mini.told(report("nt_1", "filled", fill(1, "10")))
    with mini.store.read() as connection:
        ((symbol, held),) = accounts.holdings(connection, "paper", lambda _symbol, _since: Decimal(2))
    assert (symbol, held.quantity, held.cost) == ("AAPL", 20 * 10**9, 1_000 * 10**6)


@row(37, "wash-trade, PDT, short rules")
def wash_trades() -> None:
    venue = Venue()
    venue.quote(99, 100)
    venue.order("buy", 10)
    venue.order("buy", 10, limit_price="98")
    with pytest.raises(RefusedError, match="wash trade"):
        venue.order("sell", 10)
    with pytest.raises(RefusedError):
        venue.order("sell", 1, symbol="C")


@row(38, "kill switch and a replayable event log")
async def kill_switch(floor: Any, intent: Any) -> None:
    venue = Scripted()
    desk: Desk = floor.desk(venue)
    low = intent(type="limit", limit_price="400.00")
    placed = await desk.submit((await desk.preview(low, floor.agent)).preview_id, floor.agent)
    preview = await desk.preview(intent(), floor.agent)
    await trading_halt(floor.store, desk, floor.agent, reason="a row")
    with pytest.raises(RiskError, match="halted"):
        await desk.submit(preview.preview_id, floor.agent)
    with floor.store.read() as connection:
        told = replay(connection, placed.order.client_order_id)
    assert [each.state for each in told.moments] == [S.SUBMITTED, S.ACCEPTED, S.PENDING_CANCEL, S.CANCELED]
    assert told.agrees
    with floor.store.unit() as unit:
        unit.connection.execute("UPDATE orders SET state = 'filled'")
    with floor.store.read() as connection:
        assert disagreements(connection) == [placed.order.client_order_id], "an edited row shows"


def adapter(venue: Served) -> AlpacaBroker:
    settings = AlpacaTradingSettings(
        url=venue.url, key_id=SecretStr(KEY), secret_key=SecretStr(SECRET), stand_in_symbol="B"
    )
    return AlpacaBroker(settings, WallClock())


def named(number: int) -> str:
    return f"row {number}: {ROWS[number][0]}"


def test_every_row_has_a_case() -> None:
    assert sorted(ROWS) == list(range(1, 39))


PLAIN = [number for number in sorted(ROWS) if number not in {6, 7, 26, 27, 28, 29, 38}]


@pytest.mark.parametrize("number", PLAIN, ids=named)
def test_row(number: int, request: pytest.FixtureRequest) -> None:
    case = ROWS[number][1]
    wanted = case.__code__.co_varnames[: case.__code__.co_argcount]
    case(*(request.getfixturevalue(name) for name in wanted))


@pytest.mark.anyio
@pytest.mark.parametrize("number", sorted(set(ROWS) - set(PLAIN)), ids=named)
async def test_awaited_row(number: int, request: pytest.FixtureRequest) -> None:
    case = ROWS[number][1]
    wanted = case.__code__.co_varnames[: case.__code__.co_argcount]
    await case(*(request.getfixturevalue(name) for name in wanted))
