"""The desk: preview -> policy -> approval -> reserve and record -> submit -> fills -> portfolio.

Read `Desk.submit` from top to bottom: what was decided is durable in one transaction (`commitments`) before
the broker is called, and what the broker answers is written down once (`ledger`). A process that dies in
between leaves an order in `submitted`; `reconcile` asks the venue about it and never sends it again.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeVar

import anyio
import anyio.to_thread
import structlog

from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.policy.engine import Verdict
from neural_trader_governance.policy.source import PolicySource
from neural_trader_governance.signing.keys import VerifyingKey
from neural_trader_governance.store import Receipt, Store
from neural_trader_governance.terms.clocks import Clock, format_time, to_utc
from neural_trader_governance.terms.fills import Fill
from neural_trader_governance.terms.orders import Order, OrderIntent, OrderState
from neural_trader_governance.terms.portfolios import Portfolio
from neural_trader_tools.brokers.port import Broker, BrokerReport
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.orders import (
    accounts,
    arrivals,
    book,
    breaks,
    interest,
    messages,
    postings,
    previews,
    transfers,
)
from neural_trader_tools.orders.algos import parents
from neural_trader_tools.orders.commitments import Commitments
from neural_trader_tools.orders.comparison import LASTS, Comparison, Difference
from neural_trader_tools.orders.dividends import Dividends
from neural_trader_tools.orders.facts import Sources
from neural_trader_tools.orders.interest import Interest
from neural_trader_tools.orders.judge import Judge
from neural_trader_tools.orders.ledger import Ledger
from neural_trader_tools.orders.order_ids import random_id
from neural_trader_tools.orders.previews import Preview
from neural_trader_tools.orders.reconciliation import IN_DOUBT_AFTER, Discrepancy, Reconciliation
from neural_trader_tools.orders.risk import Risk, assess_risk
from neural_trader_tools.orders.valuation import read_portfolio
from neural_trader_tools.orders.venue_payments import VenuePayments

SCHEMAS = (
    accounts.SCHEMA,
    postings.SCHEMA,
    previews.SCHEMA,
    book.SCHEMA,
    messages.SCHEMA,
    breaks.SCHEMA,
    arrivals.SCHEMA,
    parents.SCHEMA,
    transfers.SCHEMA,
    interest.SCHEMA,
)
"""The desk's tables, for `Store.open`: they live beside the log so that one transaction covers both."""

_T = TypeVar("_T")

_log = structlog.get_logger(__name__)


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
    live_switch: bool = False
    restricted_symbols: frozenset[str] = frozenset()
    mandates_required: bool = False
    debit_rate: Decimal = Decimal(0)
    """What a year of borrowed cash costs at the paper venue, as a fraction; others charge by themselves."""
    deaf: Callable[[], str] = field(default=lambda: "")
    """Why the desk does not hear of its venue's fills; empty where it does. Nothing is sent meanwhile."""
    new_id: Callable[[str], str] = field(default=random_id)
    _judge: Judge = field(init=False)
    _commitments: Commitments = field(init=False)
    _ledger: Ledger = field(init=False)
    _reconciliation: Reconciliation = field(init=False)
    _comparison: Comparison = field(init=False)
    _dividends: Dividends = field(init=False)
    _interest: Interest = field(init=False)

    def __post_init__(self) -> None:
        sources = Sources(
            archive=self.archive,
            replay=self.replay,
            mode=self.broker.mode,
            live_switch=self.live_switch,
            restricted_symbols=self.restricted_symbols,
            issuer=self.issuer,
            mandates_required=self.mandates_required,
        )
        self._judge = Judge(self.policy, sources, self.clock)
        self._commitments = Commitments(self.store, self._judge, self.clock, self.issuer, self.new_id)
        self._ledger = Ledger(self.store, self.archive, self.replay, self.clock)
        self._reconciliation = Reconciliation(self.store, self.broker, self._ledger, self.clock)
        payments = VenuePayments(self.store, self.broker)
        self._comparison = Comparison(
            self.store, self.broker, self.archive, self.replay, self.clock, payments
        )
        self._dividends = Dividends(self.store, self.archive, self.replay)
        self._interest = Interest(self.store, self.replay, self.debit_rate)

    async def preview(self, intent: OrderIntent, caller: Caller) -> Preview:
        """Prices and judges an intent, and stores it for one submission.

        Raises:
            DataError: the symbol is not in the archive.
            InputError: the account does not exist.
            RiskError: the intent names another agent, whose permissions and bounds would be used; or
                the agent previews too much, or too many orders of its wait for persons.
        """
        if intent.agent != caller.agent:
            raise RiskError(
                "intent_not_yours",
                f"the order names the agent {intent.agent}, and {caller.agent or 'a person'} asks for it",
                "preview orders of your own only",
            )
        if why := self.broker.unsupported(intent):
            what, _, step = why.partition("; ")
            raise InputError(
                "not_available",
                f"the venue {self.broker.name} cannot do it: {what}",
                step or "preview an order that it can do",
            )
        return await anyio.to_thread.run_sync(self._commitments.preview, intent, caller)

    async def submit(self, preview_id: str, caller: Caller) -> Submission:
        """Submits a preview once.

        Raises:
            RiskError: the preview is unknown, used, expired, denied or lacks its approval; trading is
                halted; or policy, asked again with fresh facts, denies it. Nothing was sent.
        """
        return await _uninterrupted(self._submit(preview_id, caller))

    def judge_signed(self, connection: sqlite3.Connection, preview: Preview, more: int = 0) -> Verdict:
        """Judges a waiting preview with the approvals that it has now and `more` independent ones."""
        return self._judge.decide_signed(connection, preview, more=more).verdict

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

    async def risk(self, portfolio: Portfolio) -> Risk:
        """Says what a valued account may lose in a day, from prices known when it was valued."""
        priced_at = portfolio.priced_at or self.replay.now()
        return await anyio.to_thread.run_sync(assess_risk, portfolio, self.archive, priced_at)

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
        """Asks the venue about every order that is not finished; see `Reconciliation.settle`.

        Then books the dividends and the interest that are due, where the venue pays none itself.
        """
        found = await self._reconciliation.settle(caller, in_doubt_after=in_doubt_after)
        if self.broker.name == "paper":
            await anyio.to_thread.run_sync(self._dividends.book, caller)
            await anyio.to_thread.run_sync(self._interest.book, caller)
        return found

    async def catch_up(self, caller: Caller) -> None:
        """Reconciles after a time in which nobody heard the venue: what ended lately is looked up, too."""
        await self.reconcile(caller)
        await self._reconciliation.settle_ended(caller)

    async def keep_reconciled(
        self,
        caller: Caller,
        *,
        every_s: float = 5.0,
        found: Callable[[Discrepancy], None] | None = None,
    ) -> None:
        """Reconciles for ever: run it in a task group of the server's lifespan."""
        await self._reconciliation.keep_settling(caller, every_s=every_s, found=found)

    async def keep_compared(self, caller: Caller, *, every_s: float = 30.0) -> None:
        """Compares the whole account for ever, where the venue has books: run it beside `keep_reconciled`."""
        await self._comparison.keep_comparing(caller, every_s=every_s)

    async def compare(self, caller: Caller, *, lasts: timedelta = LASTS) -> list[Difference]:
        """Compares the whole account with the venue's; see `Comparison.compare`."""
        return await self._comparison.compare(caller, lasts=lasts)

    async def heard(self, client_order_id: str, caller: Caller) -> bool:
        """Looks up an order that the venue told of, and books it; False where the desk has none of that id.

        Raises:
            NetworkError: the venue did not say; ask again.
            IntegrityError: it contradicts the desk, which is on the record as a break.
        """
        if not await self._reading(lambda c: book.has_order(c, client_order_id)):
            return False
        report = await self.broker.order(client_order_id)
        if report is not None:
            await anyio.to_thread.run_sync(self._ledger.record_report, report, caller, False)
        return True

    async def _submit(self, preview_id: str, caller: Caller) -> Submission:
        if why := self.deaf():
            raise RiskError(
                "venue_unheard",
                f"the desk does not hear of its fills at {self.broker.name}: {why}",
                "wait some seconds and submit the same preview again; cancels go through meanwhile",
            )
        client_order_id, receipt = await anyio.to_thread.run_sync(self._commitments.order, preview_id, caller)
        intent = (await self.order(client_order_id)).intent
        send = self.broker.submit if intent.replaces is None else self.broker.replace
        await self._ask_broker(client_order_id, lambda: send(client_order_id, intent), caller)
        if intent.replaces is not None:
            await self._reconciliation.settle_one(intent.replaces, caller)
        return await self._reading(
            lambda c: Submission(
                book.find_order(c, client_order_id), receipt, accounts.fills_of(c, client_order_id)
            )
        )

    async def _cancel(self, client_order_id: str, caller: Caller) -> Order:
        if await anyio.to_thread.run_sync(self._commitments.cancel, client_order_id, caller):
            await self._ask_broker(client_order_id, lambda: self.broker.cancel(client_order_id), caller)
        return await self.order(client_order_id)

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

    async def _reading(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        return await anyio.to_thread.run_sync(self._read, query)

    def _read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        with self.store.read() as connection:
            return query(connection)
