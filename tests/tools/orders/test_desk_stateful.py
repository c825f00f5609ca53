"""The desk and its venue against a simple model: whatever order people, agents and days come in."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, cast

import anyio
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from neural_trader_governance import principals
from neural_trader_governance.audit.verify import verify_store
from neural_trader_governance.errors import NetworkError, RiskError
from neural_trader_governance.halts import resume
from neural_trader_governance.identity import Caller
from neural_trader_governance.policy.engine import PolicyEngine
from neural_trader_governance.principals import Role
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock, format_time
from neural_trader_governance.terms.fills import Fill
from neural_trader_governance.terms.orders import OrderIntent, OrderState
from neural_trader_tools.brokers.paper import PaperBroker
from neural_trader_tools.brokers.port import BrokerReport, VenueBooks
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.orders import accounts
from neural_trader_tools.orders.algos.execution import Execution
from neural_trader_tools.orders.algos.parents import children_of
from neural_trader_tools.orders.algos.plan import Leg, Plan
from neural_trader_tools.orders.algos.request import Request
from neural_trader_tools.orders.desk import SCHEMAS, Desk, Submission
from neural_trader_tools.orders.history import disagreements
from neural_trader_tools.orders.inbox import Inbox
from neural_trader_tools.orders.journal import audit, read_journal
from neural_trader_tools.orders.machine import WORKING
from neural_trader_tools.orders.valuation import Pricer
from neural_trader_tools.trading.halt import trading_halt

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
START = datetime(2005, 2, 23, 21, 0, tzinfo=UTC)
SPLIT = datetime(2005, 2, 28, 5, 0, tzinfo=UTC)  # AAPL 2:1, three sessions after the start
AGENT = Caller(principal="test", agent="agent-1")
STRANGER = Caller(principal="test", agent="agent-2")
PERSON = Caller(principal="approver", agent="")
OPENING = Decimal(100_000)
APPROVAL_ABOVE = Decimal(10_000)
CENT = Decimal("0.01")
SYMBOLS = st.sampled_from(["AAPL", "MSFT"])


class LosesAnswers:
    """The paper venue behind a wire that drops the request or the answer."""

    name = "lossy"
    mode: Literal["paper", "live"] = "paper"

    def __init__(self, venue: PaperBroker, arrives: bool) -> None:
        self.venue, self.arrives = venue, arrives

    async def submit(self, client_order_id: str, intent: OrderIntent) -> BrokerReport:
        if self.arrives:
            await self.venue.submit(client_order_id, intent)
        raise NetworkError("connection_lost", "the wire was cut", "wait")

    async def cancel(self, client_order_id: str) -> BrokerReport:
        if self.arrives:
            await self.venue.cancel(client_order_id)
        raise NetworkError("connection_lost", "the wire was cut", "wait")

    async def order(self, client_order_id: str) -> BrokerReport | None:
        raise NetworkError("connection_lost", "the wire was cut", "wait")

    async def replace(self, client_order_id: str, intent: OrderIntent) -> BrokerReport:
        return await self.submit(client_order_id, intent)

    async def books(self) -> VenueBooks | None:
        return await self.venue.books()

    def unsupported(self, intent: OrderIntent) -> str:
        return self.venue.unsupported(intent)

    close_unknown = cancel


class DeskMachine(RuleBasedStateMachine):
    """Two processes' desks on one home; the model is the audit log's fills and what people said."""

    previews = Bundle("previews")

    def __init__(self, archive_root: Path, policy: PolicyEngine, key: SigningKey, seen: Counter[str]) -> None:
        super().__init__()
        self.seen = seen
        self.folder = TemporaryDirectory()
        home = Path(self.folder.name)
        self.clock, self.archive, self.key = SimulatedClock(NOW), Archive(archive_root), key
        self.replay = ReplayClock(self.archive, home / "replay.db")
        self.replay.set(START)
        self.venue = PaperBroker(home / "paper.db", self.archive, self.replay, self.clock)
        self.stores = [
            Store.open(home / "desk.db", origin=key.name, signer=key, clock=self.clock, schemas=SCHEMAS)
            for _ in range(2)
        ]
        self.policy = policy
        self.inbox = Inbox(
            self.stores[0], policy, self.clock, key.verifying_key, self.desk(0, "whole").judge_signed
        )
        with self.stores[0].unit() as unit:
            accounts.open_account(
                unit.connection,
                account="paper",
                cash=OPENING,
                currency="USD",
                opened_time=format_time(NOW),
            )
            accounts.permit_agent(unit.connection, account="paper", agent=AGENT.agent)
            enrolled: tuple[tuple[principals.Kind, str, Role, str | None], ...] = (
                ("person", AGENT.principal, Role.TRADER, None),
                ("agent", AGENT.agent, Role.TRADER, None),
                ("person", PERSON.principal, Role.APPROVER, key.vkey),
            )
            for kind, name, role, vkey in enrolled:
                document = principals.sign_enrolment(
                    unit.connection,
                    key,
                    kind=kind,
                    name=name,
                    roles=frozenset({role}),
                    time=NOW,
                    vkey=vkey,
                )
                principals.enroll(unit, document, issuer=key.verifying_key, caller=PERSON)
        self.approved: set[str] = set()
        self.rejected: set[str] = set()
        self.used: dict[str, str] = {}
        self.halted = False
        self.deaf = ""
        self.parents: dict[str, tuple[Leg, ...]] = {}

    def desk(self, process: int, wire: str) -> Desk:
        lossy = {"request lost": False, "answer lost": True}
        return Desk(
            store=self.stores[process],
            policy=self.policy,
            broker=LosesAnswers(self.venue, lossy[wire]) if wire in lossy else self.venue,
            archive=self.archive,
            replay=self.replay,
            clock=self.clock,
            issuer=self.key.verifying_key,
            deaf=lambda: self.deaf,
        )

    def execution(self, process: int, wire: str) -> Execution:
        desk = self.desk(process, wire)
        return Execution(self.stores[process], desk, self.archive, self.replay, self.clock)

    process = st.sampled_from([0, 1])
    wire = st.sampled_from(["whole", "whole", "whole", "request lost", "answer lost"])

    @rule(
        target=previews,
        process=process,
        symbol=SYMBOLS,
        side=st.sampled_from(["buy", "buy", "sell"]),
        value=st.sampled_from([50, 3_000, 9_500, 9_999, 12_000, 45_000]),
        kind=st.sampled_from(["market", "limit", "stop", "stop_limit"]),
        aside=st.sampled_from(["0.93", "0.985", "1", "1.015", "1.07"]),
        beyond=st.sampled_from(["0.98", "1", "1.02"]),
        lasts=st.sampled_from(["day", "gtc"]),
        fraction=st.sampled_from(["1", "0.1", "0.000000001"]),
    )
    def preview(
        self, process: int, symbol: str, side: str, value: int, kind: str, aside: str, beyond: str,
        lasts: str, fraction: str,
    ) -> str:  # fmt: skip
        last = self.replay.quote(symbol).last
        price = (last * Decimal(aside)).quantize(CENT)
        fields: dict[str, object] = {"symbol": symbol, "side": side, "type": kind, "time_in_force": lasts}
        fields["quantity"] = (value / last).quantize(Decimal(fraction), ROUND_FLOOR)
        fields |= {"stop_price": price} if "stop" in kind else {}
        fields |= {"limit_price": (price * Decimal(beyond)).quantize(CENT)} if "limit" in kind else {}
        if not fields["quantity"]:
            fields["quantity"] = Decimal("0.000000001")
        intent = OrderIntent.model_validate({**fields, "agent": AGENT.agent, "reason": "a move of the model"})
        preview = anyio.run(self.desk(process, "whole").preview, intent, AGENT)
        assert not (self.halted and preview.verdict.decision == "allow")
        return preview.preview_id

    @rule(process=process, preview_id=previews, wire=wire, caller=st.sampled_from([AGENT, AGENT, STRANGER]))
    def submit(self, process: int, preview_id: str, wire: str, caller: Caller) -> None:
        desk = self.desk(process, wire)
        before = len(anyio.run(desk.orders))
        try:
            submission: Submission = anyio.run(desk.submit, preview_id, caller)
        except RiskError:
            assert len(anyio.run(desk.orders)) == before, "a refusal leaves no order"
            return
        assert not self.deaf, "who does not hear the venue sends it nothing"
        assert caller == AGENT
        assert not self.halted
        assert preview_id not in self.used
        assert preview_id not in self.rejected
        self.used[preview_id] = submission.order.client_order_id
        order = submission.order
        if order.state == OrderState.FILLED and order.average_price is not None:
            value = order.average_price * order.filled_quantity
            assert value <= APPROVAL_ABOVE or preview_id in self.approved

    @rule(data=st.data(), process=process, wire=wire, symbol=SYMBOLS, selling=st.booleans())
    def trade(self, data: st.DataObject, process: int, wire: str, symbol: str, selling: bool) -> None:
        """The whole way at once, so that runs hold many orders; sells what is held, or half of it."""
        desk = self.desk(process, "whole")
        portfolio = anyio.run(desk.portfolio, "paper")
        held = next((item.quantity for item in portfolio.positions if item.symbol == symbol), Decimal(0))
        last = self.replay.quote(symbol).last
        fields: dict[str, object] = {"symbol": symbol, "side": "buy", "quantity": Decimal(9_000 // last)}
        if selling and held:
            fields |= {
                "side": "sell",
                "quantity": data.draw(st.sampled_from([held, held / 2])).quantize(CENT),
            }
        if data.draw(st.booleans()):
            limit = (last * data.draw(st.sampled_from([Decimal("0.985"), Decimal("1.01")]))).quantize(CENT)
            fields |= {"type": "limit", "limit_price": limit, "time_in_force": "gtc"}
        intent = OrderIntent.model_validate(
            {**fields, "agent": AGENT.agent, "reason": "a trade of the model"}
        )
        self.submit(process, anyio.run(desk.preview, intent, AGENT).preview_id, wire, AGENT)

    @rule(data=st.data(), process=process, wire=wire)
    def cancel_any(self, data: st.DataObject, process: int, wire: str) -> None:
        if self.used:
            self.cancel(process, data.draw(st.sampled_from(sorted(self.used))), wire)

    @rule(process=process, preview_id=previews, wire=wire)
    def cancel(self, process: int, preview_id: str, wire: str) -> None:
        if preview_id in self.used:
            anyio.run(self.desk(process, wire).cancel, self.used[preview_id], AGENT)

    @rule(preview_id=previews, yes=st.sampled_from([True, True, False]))
    def answer(self, preview_id: str, yes: bool) -> None:
        try:
            if yes:
                self.inbox.approve(preview_id, key=self.key, person=PERSON)
            else:
                self.inbox.reject(preview_id, person=PERSON, reason="no")
        except RiskError:
            return
        (self.approved if yes else self.rejected).add(preview_id)

    @rule(
        process=process,
        algorithm=st.sampled_from(["now", "twap", "vwap", "pov"]),
        symbols=st.lists(SYMBOLS, min_size=1, max_size=2, unique=True),
        side=st.sampled_from(["buy", "buy", "sell"]),
        quantity=st.sampled_from([3, 90, 400]),
        sessions=st.sampled_from([1, 4]),
    )
    def start_parent(
        self, process: int, algorithm: str, symbols: list[str], side: str, quantity: int, sessions: int
    ) -> None:
        """A parent over some sessions; its children go the way of every order."""
        now = self.replay.now()
        plan: dict[str, object] = {"algorithm": algorithm, "start": now, "seed": quantity}
        plan |= {"end": now + timedelta(days=sessions), "slices": 3}
        plan |= {"weights": (2, 1, 3)} if algorithm == "vwap" else {}
        plan |= {"participation_bps": 1} if algorithm == "pov" else {}
        legs = tuple(
            Leg.model_validate({"symbol": symbol, "side": side, "quantity": Decimal(quantity)})
            for symbol in symbols
        )
        wanted = Request("paper", legs, Plan.model_validate(plan), "a parent of the model")
        self.parents[anyio.run(self.execution(process, "whole").start, wanted, AGENT).parent_id] = legs
        self.step_parents(process, "whole")

    @precondition(lambda self: bool(self.parents))
    @rule(process=process, wire=wire)
    def step_parents(self, process: int, wire: str) -> None:
        self.clock.advance(timedelta(minutes=2))
        execution = self.execution(process, wire)
        before = len(anyio.run(execution.desk.orders))
        anyio.run(execution.step)
        if self.deaf or self.halted:
            assert len(anyio.run(execution.desk.orders)) == before, "parents send nothing either"

    @precondition(lambda self: bool(self.parents))
    @rule(data=st.data(), process=process)
    def cancel_parent(self, data: st.DataObject, process: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.parents)))
        anyio.run(self.execution(process, "whole").cancel, name, AGENT)

    @rule(why=st.sampled_from(["the stream is down", ""]))
    def lose_or_regain_hearing(self, why: str) -> None:
        self.deaf = why

    @rule(sessions=st.sampled_from([1, 1, 3]))
    def step(self, sessions: int) -> None:
        self.replay.step(sessions)
        with pytest.raises(Exception, match="clock_backwards"):
            self.replay.set(START - timedelta(days=1))

    @rule(process=process, wire=wire, seconds=st.sampled_from([0, 6, 400]))
    def reconcile(self, process: int, wire: str, seconds: int) -> None:
        self.clock.advance(timedelta(seconds=seconds))
        desk = self.desk(process, wire)
        anyio.run(desk.reconcile, AGENT)
        if wire == "whole" and seconds:
            doubtful = frozenset({OrderState.SUBMITTED, OrderState.UNKNOWN, OrderState.PENDING_CANCEL})
            assert anyio.run(lambda: desk.orders(states=doubtful)) == [], "everything in doubt is settled"

    @precondition(lambda self: not self.halted and len(self.used) > 2)
    @rule(process=process)
    def halt(self, process: int) -> None:
        desk = self.desk(process, "whole")
        anyio.run(lambda: trading_halt(self.stores[process], desk, AGENT, reason="drill"))
        self.halted = True
        assert anyio.run(lambda: desk.orders(states=WORKING)) == []

    @precondition(lambda self: self.halted)
    @rule()
    def resume(self) -> None:
        with self.stores[1].unit() as unit:
            resume(unit, caller=PERSON)
        self.halted = False

    @invariant()
    def the_books_are_the_sum_of_the_logs_fills(self) -> None:
        with self.stores[0].read() as connection:
            entries = [
                json.loads(row[0])
                for row in connection.execute("SELECT entry FROM audit_entries ORDER BY seq")
            ]
            orders = connection.execute(
                "SELECT client_order_id, state, reserved, quantity - filled FROM orders"
            )
            for name, state, reserved, left in orders.fetchall():
                assert reserved >= 0, name
                assert left >= 0, name
                assert reserved == 0 or state in WORKING, name
            booked = {row[0] for row in connection.execute("SELECT execution_id FROM fills")}
            submitted = {row[0] for row in connection.execute("SELECT client_order_id FROM orders")}
        fills = [Fill.model_validate(entry["payload"]) for entry in entries if entry["type"] == "broker.fill"]
        assert Counter(fill.execution_id for fill in fills) == Counter(booked)
        intents = Counter(entry["client_order_id"] for entry in entries if entry["type"] == "order.intent")
        assert intents == Counter(submitted)
        cash, held = OPENING, Counter[str]()
        positions: dict[str, Decimal] = {"AAPL": Decimal(0), "MSFT": Decimal(0)}
        for fill in fills:
            gross = fill.quantity * fill.price
            buying = fill.side == "buy"
            cash += -gross.quantize(CENT, ROUND_CEILING) if buying else gross.quantize(CENT, ROUND_FLOOR)
            splits = 2 if fill.symbol == "AAPL" and fill.event_time < SPLIT <= self.replay.now() else 1
            positions[fill.symbol] += fill.quantity * splits * (1 if buying else -1)
            held[fill.client_order_id] += 1
        paid = [entry["payload"]["amount"] for entry in entries if entry["type"] == "account.post"]
        cash += sum(map(Decimal, paid), Decimal(0))
        portfolio = anyio.run(self.desk(0, "whole").portfolio, "paper")
        assert portfolio.cash == cash
        assert portfolio.reserved_cash >= 0
        shown = {position.symbol: position.quantity for position in portfolio.positions}
        assert {symbol: quantity for symbol, quantity in positions.items() if quantity} == {
            symbol: quantity for symbol, quantity in shown.items() if quantity
        }
        assert all(quantity >= 0 for quantity in shown.values()), "nothing is ever short"
        self._parents_send_no_more_than_was_asked(fills)
        self._large_orders_were_approved(entries)

    def _parents_send_no_more_than_was_asked(self, fills: list[Fill]) -> None:
        filled = dict[str, Decimal]()
        for fill in fills:
            filled[fill.client_order_id] = filled.get(fill.client_order_id, Decimal(0)) + fill.quantity
        with self.stores[1].read() as connection:
            for name, legs in self.parents.items():
                asked = {(index, leg.symbol): leg.quantity for index, leg in enumerate(legs)}
                for (index, symbol), quantity in asked.items():
                    children = [each for each in children_of(connection, name) if each.leg == index]
                    sent = [each for each in children if not each.void and each.state != OrderState.REJECTED]
                    got = sum((filled.get(each.client_order_id, Decimal(0)) for each in children), Decimal(0))
                    assert got <= quantity, symbol
                    alive = [each for each in sent if each.is_pending or each.is_working]
                    assert got + sum((each.quantity - each.filled for each in alive), Decimal(0)) <= quantity
                    for each in children:
                        assert not (each.void and each.state), "what is void is no order"

    def _large_orders_were_approved(self, entries: list[dict[str, Any]]) -> None:
        granted: set[str] = set()
        decided: dict[int, dict[str, Any]] = {}
        for entry in entries:
            if entry["type"] == "approval.grant":
                granted.add(entry["payload"]["preview_id"])
            elif entry["type"] == "policy.decision":
                decided[entry["seq"]] = entry["payload"]
            elif entry["type"] == "order.intent":
                decision = decided[entry["payload"]["decision_seq"]]
                assert decision["decision"] == "allow"
                assert not decision["context"]["halted"]
                large = decision["context"]["notional_cents"] > APPROVAL_ABOVE * 100
                assert not large or entry["payload"]["preview_id"] in granted

    def teardown(self) -> None:
        with self.stores[1].read() as connection:
            query = "SELECT state, children.client_order_id IS NOT NULL FROM orders LEFT JOIN children"
            for state, is_child in connection.execute(f"{query} USING (client_order_id)"):
                self.seen[f"{state} child" if is_child else state] += 1
            assert disagreements(connection) == [], "the log, played again, ends where the orders stand"
            now = self.replay.now()
            journal = read_journal(connection, "paper", self.archive, now)
            checks = audit(connection, journal, self.archive, Pricer(self.archive, self.replay, now))
        assert [check for check in checks if not check.ok] == [], "the books, folded anew, are the ledger"
        verified = verify_store(self.stores[0].path, self.stores[0].vkey)
        for store in self.stores:
            store.close()
        self.folder.cleanup()
        assert verified.ok


def test_no_order_of_events_bends_the_books_or_the_rules(sample_archive_root: Path) -> None:
    policy, key = PolicyEngine.load(), SigningKey.generate("neural-trader.test/desk")
    seen = Counter[str]()
    run_state_machine_as_test(
        cast("type[RuleBasedStateMachine]", lambda: DeskMachine(sample_archive_root, policy, key, seen)),
        settings=settings(
            max_examples=15,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
    assert min(seen[state] for state in ("filled", "filled child")) > 3, f"else nothing was tried: {seen}"
