"""The desk: preview -> policy -> approval -> reserve and record -> submit -> fills -> portfolio.

Read `Desk.submit` from top to bottom: the intent, the decision with all its inputs, the reservation
and the audit entries are durable in one transaction before the broker is called. A process that dies
after that leaves an order in `submitted`; `reconcile` asks the venue about it and never sends it again.
"""

import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeVar

import anyio
import anyio.to_thread
import structlog

from neural_trader_governance import approvals, principals
from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.halts import covering_halt
from neural_trader_governance.identity import Caller
from neural_trader_governance.policy.engine import Verdict
from neural_trader_governance.policy.source import PolicySource
from neural_trader_governance.signing.keys import VerifyingKey
from neural_trader_governance.store import Receipt, Store, Unit
from neural_trader_governance.terms.clocks import Clock, format_time, to_utc
from neural_trader_governance.terms.fills import Fill
from neural_trader_governance.terms.money import format_decimal
from neural_trader_governance.terms.orders import Order, OrderIntent, OrderState
from neural_trader_governance.terms.portfolios import Portfolio
from neural_trader_tools.brokers.port import Broker, BrokerReport
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.orders import accounts, book, previews
from neural_trader_tools.orders.facts import Facts, gather
from neural_trader_tools.orders.ledger import Ledger, order_entry
from neural_trader_tools.orders.machine import WORKING
from neural_trader_tools.orders.previews import APPROVAL_TTL, PREVIEW_TTL, Preview, hash_intent
from neural_trader_tools.orders.reconciliation import IN_DOUBT_AFTER, Discrepancy, Reconciliation
from neural_trader_tools.orders.valuation import read_portfolio

SCHEMAS = (accounts.SCHEMA, previews.SCHEMA, book.SCHEMA)
"""The desk's tables, for `Store.open`: they live beside the log so that one transaction covers both."""

_T = TypeVar("_T")

_log = structlog.get_logger(__name__)


def random_id(prefix: str) -> str:
    """Returns a short unguessable identifier such as `pv_3f9a2c11d0e4`."""
    return f"{prefix}_{secrets.token_hex(6)}"


def order_id_of(preview_id: str) -> str:
    """Returns the id of the one order that a preview can become: the venue, too, takes it only once."""
    return f"nt_{preview_id.removeprefix('pv_')}"


async def _uninterrupted(action: Coroutine[None, None, _T]) -> _T:
    """Shields an action from cancellation: once its commit is durable, its outcome must be recorded."""
    results: list[_T] = []
    with anyio.CancelScope(shield=True):
        results.append(await action)
    return results[0]


@dataclass(frozen=True, slots=True)
class Submission:
    """What a submission answers: the order as it stands, its fills, and the receipt of its audit entry."""

    order: Order
    receipt: Receipt
    fills: tuple[Fill, ...]


@dataclass(slots=True)
class Desk:
    """The only way to an order. Everything it depends on is handed in."""

    store: Store
    policy: PolicySource
    broker: Broker
    archive: Archive
    replay: ReplayClock
    clock: Clock
    issuer: VerifyingKey
    live_enabled: bool = False
    restricted_symbols: frozenset[str] = frozenset()
    new_id: Callable[[str], str] = field(default=random_id)
    _ledger: Ledger = field(init=False)
    _reconciliation: Reconciliation = field(init=False)

    def __post_init__(self) -> None:
        self._ledger = Ledger(self.store, self.archive, self.replay, self.clock)
        self._reconciliation = Reconciliation(self.store, self.broker, self._ledger, self.clock)

    async def preview(self, intent: OrderIntent, caller: Caller) -> Preview:
        """Prices and judges an intent, and stores it for one submission.

        Raises:
            DataError: the symbol is not in the archive.
            InputError: the account does not exist.
            RiskError: the intent names another agent, whose permissions and bounds would be used.
        """
        if intent.agent != caller.agent:
            raise RiskError(
                "intent_not_yours",
                f"the order names the agent {intent.agent}, and {caller.agent or 'a person'} asks for it",
                "preview orders of your own only",
            )
        return await anyio.to_thread.run_sync(self._preview, intent, caller)

    async def submit(self, preview_id: str, caller: Caller) -> Submission:
        """Submits a preview once.

        Raises:
            RiskError: the preview is unknown, used, expired, denied or lacks its approval; trading is
                halted; or policy, asked again with fresh facts, denies it. Nothing was sent.
        """
        return await _uninterrupted(self._submit(preview_id, caller))

    def judge_signed(self, connection: sqlite3.Connection, preview: Preview, more: int = 0) -> Verdict:
        """Judges a waiting preview with the approvals that it has now and `more` independent ones."""
        instrument = self.archive.instrument(preview.intent.symbol)
        facts = self._gather(connection, preview.intent, preview.caller, tradable=instrument.tradable)
        counted = self._count_approvals(connection, preview, facts.price, self.clock.now())
        facts = facts.with_approvals(counted.count + more, counted.independent + more)
        return self.policy.current(connection).decide(facts.context)

    async def cancel(self, client_order_id: str, caller: Caller) -> Order:
        """Asks the venue to cancel what is still working; a finished order is returned as it is.

        Raises:
            RiskError: the order belongs to another agent, and trading is not halted.
            ExecutionError: there is no such order.
        """
        return await _uninterrupted(self._cancel(client_order_id, caller))

    async def order(self, client_order_id: str) -> Order:
        """Returns one order as the desk knows it."""
        return await self._reading(lambda c: book.find_order(c, client_order_id))

    async def orders(self, *, states: frozenset[OrderState] | None = None, limit: int = 50) -> list[Order]:
        """Returns orders, newest first."""
        return await self._reading(lambda c: book.list_orders(c, states=states, limit=limit))

    async def portfolio(self, account: str) -> Portfolio:
        """Values an account at the replay clock's prices."""
        return await self._reading(lambda c: read_portfolio(c, account, self.archive, self.replay))

    async def set_clock(self, moment: datetime) -> datetime:
        """Sets the replay clock and returns the moment; once there is an order, never backwards.

        Without this, a clock on auto could be set to before what orders were placed and filled on.

        Raises:
            InputError: `clock_backwards`, or the moment has no time zone.
        """
        return await anyio.to_thread.run_sync(self._set_clock, moment)

    def _set_clock(self, moment: datetime) -> datetime:
        moment = to_utc(moment)
        with self.store.unit() as unit:  # no order is submitted between the look and the move
            if book.list_orders(unit.connection, limit=1) and moment < (now := self.replay.now()):
                raise InputError(
                    "clock_backwards",
                    f"orders were placed with the replay clock at {format_time(now)}, and it cannot go back"
                    f" to {format_time(moment)}",
                    "step forward, or start a fresh home for another replay",
                )
            return self.replay.set(moment)

    async def reconcile(
        self, caller: Caller, *, in_doubt_after: timedelta = IN_DOUBT_AFTER
    ) -> list[Discrepancy]:
        """Asks the venue about every order that is not finished; see `Reconciliation.settle`."""
        return await self._reconciliation.settle(caller, in_doubt_after=in_doubt_after)

    async def keep_reconciled(self, caller: Caller, *, every_s: float = 5.0) -> None:
        """Reconciles for ever: run it in a task group of the server's lifespan."""
        await self._reconciliation.keep_settling(caller, every_s=every_s)

    async def _submit(self, preview_id: str, caller: Caller) -> Submission:
        client_order_id, receipt = await anyio.to_thread.run_sync(self._commit_submission, preview_id, caller)
        intent = (await self.order(client_order_id)).intent
        await self._ask_broker(client_order_id, lambda: self.broker.submit(client_order_id, intent), caller)
        return await self._reading(
            lambda c: Submission(
                book.find_order(c, client_order_id), receipt, accounts.fills_of(c, client_order_id)
            )
        )

    async def _cancel(self, client_order_id: str, caller: Caller) -> Order:
        if await anyio.to_thread.run_sync(self._commit_cancel, client_order_id, caller):
            await self._ask_broker(client_order_id, lambda: self.broker.cancel(client_order_id), caller)
        return await self.order(client_order_id)

    def _preview(self, intent: OrderIntent, caller: Caller) -> Preview:
        instrument = self.archive.instrument(intent.symbol)
        with self.store.unit() as unit:
            facts = self._gather(unit.connection, intent, caller, tradable=instrument.tradable)
            verdict = self.policy.current(unit.connection).decide(facts.context)
            state = {
                "allow": OrderState.PREVIEWED,
                "needs_approval": OrderState.AWAITING_APPROVAL,
                "deny": OrderState.DENIED,
            }[verdict.decision]
            now = self.clock.now()
            preview = Preview(
                preview_id=self.new_id("pv"),
                caller=caller,
                intent=intent,
                intent_hash=hash_intent(intent),
                price=facts.price,
                notional=facts.notional,
                verdict=verdict,
                state=state,
                created_time=now,
                expires_time=now + (APPROVAL_TTL if verdict.decision == "needs_approval" else PREVIEW_TTL),
            )
            previews.insert_preview(unit.connection, preview)
            self._append_decision(unit, preview, facts, verdict, caller)
            if verdict.decision == "needs_approval":
                unit.append(self._entry(EntryType.APPROVAL_REQUEST, preview, caller, {}))
        return preview

    def _commit_submission(self, preview_id: str, caller: Caller) -> tuple[str, Receipt]:
        refusal: RiskError | None = None
        client_order_id, seq = "", 0
        with self.store.unit() as unit:
            connection, now = unit.connection, self.clock.now()
            preview = previews.find_preview(connection, preview_id)
            if preview.caller != caller:
                raise RiskError(
                    "preview_not_yours",
                    f"{preview_id} belongs to agent {preview.caller.agent}",
                    "submit only what you previewed yourself",
                )
            preview.require_open(now)
            self._require_no_halt(connection, preview.intent)
            instrument = self.archive.instrument(preview.intent.symbol)
            facts = self._gather(connection, preview.intent, caller, tradable=instrument.tradable)
            counted = self._count_approvals(connection, preview, facts.price, now)
            facts = facts.with_approvals(counted.count, counted.independent)
            verdict = self.policy.current(connection).decide(facts.context)
            if verdict.decision == "needs_approval":
                if counted.void:
                    raise counted.void[0]
                if preview.state == OrderState.PREVIEWED:  # it was allowed, and no longer is without a person
                    self._judge_again(unit, preview, facts, verdict, caller)
                    unit.append(self._entry(EntryType.APPROVAL_REQUEST, preview, caller, {}))
                refusal = RiskError(
                    "approval_required",
                    f"{preview_id} needs a person: {_messages(verdict)}",
                    f"ask an approver to run: neural-trader orders approve {preview_id}",
                    preview_id=preview_id,
                )
            elif verdict.decision == "deny":
                self._judge_again(unit, preview, facts, verdict, caller)
                refusal = RiskError(
                    "denied",
                    f"policy denied {preview_id}: {_messages(verdict)}",
                    "; ".join(reason.next_step for reason in verdict.reasons),
                    reasons=[reason.model_dump() for reason in verdict.reasons],
                )
            else:
                decision_seq = self._append_decision(unit, preview, facts, verdict, caller)
                client_order_id = order_id_of(preview_id)
                self._require_unsent(connection, client_order_id)
                entry = self._entry(EntryType.ORDER_INTENT, preview, caller, {"decision_seq": decision_seq})
                seq = unit.append(entry.model_copy(update={"client_order_id": client_order_id}))
                book.insert_order(
                    connection,
                    book.NewOrder(
                        client_order_id,
                        preview_id,
                        preview.intent,
                        preview.intent_hash,
                        facts.reserve,
                        now,
                        seq,
                    ),
                )
                previews.update_preview(
                    connection, preview_id, state=OrderState.SUBMITTED, client_order_id=client_order_id
                )
        if refusal is not None:
            raise refusal
        return client_order_id, unit.receipt(seq)

    def _judge_again(
        self, unit: Unit, preview: Preview, facts: Facts, verdict: Verdict, caller: Caller
    ) -> None:
        self._append_decision(unit, preview, facts, verdict, caller)
        waits = verdict.decision == "needs_approval"
        previews.judge_again(
            unit.connection,
            preview.preview_id,
            state=OrderState.AWAITING_APPROVAL if waits else OrderState.DENIED,
            verdict=verdict,
            price=facts.price,
            notional=facts.notional,
            expires_time=self.clock.now() + APPROVAL_TTL if waits else preview.expires_time,
        )

    def _commit_cancel(self, client_order_id: str, caller: Caller) -> bool:
        with self.store.unit() as unit:
            order = book.find_order(unit.connection, client_order_id)
            if caller.agent not in {"", order.intent.agent} and not self._is_halted(unit.connection, order):
                raise RiskError(
                    "order_not_yours",
                    f"{client_order_id} belongs to agent {order.intent.agent}",
                    "cancel your own orders; while trading is halted anybody may cancel any",
                )
            if order.state not in WORKING or order.state == OrderState.PENDING_CANCEL:
                return order.state == OrderState.PENDING_CANCEL
            book.move_order(
                unit.connection,
                client_order_id,
                OrderState.PENDING_CANCEL,
                now=self.clock.now(),
                detail="cancel asked for",
            )
            unit.append(order_entry(EntryType.BROKER_CANCEL, order, caller, {}))
            return True

    def _is_halted(self, connection: sqlite3.Connection, order: Order) -> bool:
        try:
            self._require_no_halt(connection, order.intent)
        except RiskError:
            return True
        return False

    async def _ask_broker(
        self, client_order_id: str, ask: Callable[[], Awaitable[BrokerReport]], caller: Caller
    ) -> None:
        """Calls the venue and records the answer; an unclear outcome becomes `unknown`, never a retry."""
        try:
            report = await ask()
        except Exception as error:
            _log.exception("broker.unclear", client_order_id=client_order_id)
            await anyio.to_thread.run_sync(self._ledger.record_unknown, client_order_id, str(error), caller)
            return
        await anyio.to_thread.run_sync(self._ledger.record_report, report, caller, False)

    def _count_approvals(
        self, connection: sqlite3.Connection, preview: Preview, price: Decimal, now: datetime
    ) -> approvals.Counted:
        return approvals.count(
            previews.find_approvals(connection, preview.preview_id),
            keys=principals.approver_keys(connection, issuer=self.issuer),
            principal=preview.caller.principal,
            preview_id=preview.preview_id,
            intent_hash=preview.intent_hash,
            policy_digest=self.policy.current(connection).digest,
            price=price,
            now=now,
        )

    def _require_no_halt(self, connection: sqlite3.Connection, intent: OrderIntent) -> None:
        halted = covering_halt(
            connection,
            account=intent.account,
            symbol=intent.symbol,
            strategy_id=intent.strategy_id,
            agent=intent.agent,
        )
        if halted is not None:
            raise RiskError(
                "halted",
                f"trading is halted ({halted.scope}): {halted.reason}",
                f"a person must run: neural-trader resume {halted.scope.options}".rstrip(),
            )

    def _require_unsent(self, connection: sqlite3.Connection, client_order_id: str) -> None:
        """Asks the log, which nobody can edit unseen, whether this order was sent before."""
        query = "SELECT 1 FROM audit_entries WHERE client_order_id = ?"
        if connection.execute(query, (client_order_id,)).fetchone() is not None:
            raise RiskError(
                "preview_used",
                f"the log knows this preview's order {client_order_id} already",
                "look at it with orders_list, or call orders_preview for a new order",
                client_order_id=client_order_id,
            )

    def _gather(
        self, connection: sqlite3.Connection, intent: OrderIntent, caller: Caller, *, tradable: bool
    ) -> Facts:
        return gather(
            connection,
            intent,
            archive=self.archive,
            replay=self.replay,
            now=self.clock.now(),
            mode=self.broker.mode,
            live_enabled=self.live_enabled,
            tradable=tradable,
            restricted=intent.symbol in self.restricted_symbols,
            principal=caller.principal,
        )

    def _append_decision(
        self, unit: Unit, preview: Preview, facts: Facts, verdict: Verdict, caller: Caller
    ) -> int:
        payload = {
            "context": facts.context.model_dump(mode="json"),
            "decision": verdict.decision,
            "rules": [reason.rule for reason in verdict.reasons],
            "policy_digest": verdict.policy_digest,
            "price": format_decimal(facts.price),  # at submit it may not be the preview's any more
        }
        return unit.append(self._entry(EntryType.POLICY_DECISION, preview, caller, payload))

    def _entry(
        self, kind: EntryType, preview: Preview, caller: Caller, payload: Mapping[str, object]
    ) -> AuditEntry:
        intent = preview.intent
        return AuditEntry.by(
            caller,
            kind,
            account=intent.account,
            symbol=intent.symbol,
            intent_hash=preview.intent_hash,
            payload={
                "preview_id": preview.preview_id,
                "intent": intent.model_dump(mode="json"),
                "price": format_decimal(preview.price),
                **payload,
            },
        )

    async def _reading(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        return await anyio.to_thread.run_sync(self._read, query)

    def _read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        with self.store.read() as connection:
            return query(connection)


def _messages(verdict: Verdict) -> str:
    return "; ".join(reason.message for reason in verdict.reasons)
