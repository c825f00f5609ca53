"""Comparison: the whole account, as the venue has it, beside the desk's own books.

Orders are settled one by one (`reconciliation.py`). What no order of ours explains shows here: an order that
somebody placed outside the desk is adopted, a position that differs is a break, cash that differs (fees,
dividends, a deposit) is put on the record and told to people. A venue that does not answer says nothing: no
answer is never "flat". And what is in motion differs for a moment, so that only what lasts is believed.
"""

import sqlite3
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

import anyio
import anyio.to_thread
import structlog
from pydantic import ValidationError

from neural_trader_governance.alerts import AlertKind, raise_alert
from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import DataError, NeuralTraderError, StorageError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import Clock
from neural_trader_governance.terms.money import CENT, format_decimal, from_micros, from_nanos
from neural_trader_governance.terms.orders import OrderIntent, OrderState
from neural_trader_tools.brokers.port import Broker, Leg, VenueBooks
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.orders import accounts, book
from neural_trader_tools.orders.breaks import open_account_break
from neural_trader_tools.orders.ledger import adopt
from neural_trader_tools.orders.machine import WORKING
from neural_trader_tools.orders.valuation import Pricer
from neural_trader_tools.orders.venue_payments import VenuePayments

LASTS = timedelta(seconds=10)
"""A difference that is older than this is one; a younger may be news on its way."""
OUTSIDE = "outside"
"""The agent of orders that were not placed by this desk."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between desk and venue, and what became of it (`seen`: it has to last first)."""

    kind: str
    subject: str
    desk: str
    venue: str
    outcome: str


@dataclass(slots=True)
class Comparison:
    """Compares one store with one venue; remembers, in its process, since when a difference lasts."""

    store: Store
    broker: Broker
    archive: Archive
    replay: ReplayClock
    clock: Clock
    payments: VenuePayments | None = None
    _since: dict[tuple[str, str, str, str], datetime] = field(
        default_factory=dict[tuple[str, str, str, str], datetime], init=False
    )

    async def compare(self, caller: Caller, *, lasts: timedelta = LASTS) -> list[Difference]:
        """Asks for the whole account and compares; what lasts is adopted, opened as a break, or recorded.

        Args:
            caller: On whose record.
            lasts: How long a difference must have been seen; nothing believes it at once.

        Raises:
            NetworkError: the venue did not answer, and nothing is concluded from that.
            StorageError: the log cannot be written any more.
        """
        if self.payments is not None:  # before the cash is looked at, which it explains
            await self.payments.book(caller)
        books = await self.broker.books()
        if books is None:
            return []
        return await anyio.to_thread.run_sync(self._compare, books, caller, lasts)

    async def keep_comparing(self, caller: Caller, *, every_s: float = 30.0) -> None:
        """Compares for ever, unless the venue has no books; what it does not answer is asked again.

        Raises:
            StorageError: the log cannot be written any more; the process must stop.
        """
        while True:
            if not await self._look(caller):
                return
            await anyio.sleep(every_s)

    async def _look(self, caller: Caller) -> bool:
        """Compares once; False where the venue has no books, and never will."""
        try:
            if self.payments is not None:
                await self.payments.book(caller)
            books = await self.broker.books()
            if books is not None:
                await anyio.to_thread.run_sync(self._compare, books, caller, LASTS)
        except StorageError:
            raise
        except NeuralTraderError as error:
            _log.warning("compare.failed", error=str(error))
            return True
        return books is not None

    def _compare(self, books: VenueBooks, caller: Caller, lasts: timedelta) -> list[Difference]:
        now = self.clock.now()
        with self.store.read() as connection:
            account = self._account(connection)
            if account is None:
                return []
            found = list(self._differences(connection, books, account, now))
        keys = {(kind, subject, desk, venue) for kind, subject, desk, venue, _ in found}
        self._since = {key: since for key, since in self._since.items() if key in keys}
        told: list[Difference] = []
        for kind, subject, desk, venue, leg in found:
            key = (kind, subject, desk, venue)
            outcome = "seen"
            if now - self._since.setdefault(key, now) >= lasts:
                outcome = self._settle(kind, subject, desk, venue, leg, account, caller, now)
            told.append(Difference(kind, subject, desk, venue, outcome))
        return told

    def _account(self, connection: sqlite3.Connection) -> str | None:
        """Returns the account that outside orders are booked to: the oldest one."""
        row = connection.execute("SELECT account FROM accounts ORDER BY opened_time, account").fetchone()
        return None if row is None else str(row[0])

    def _differences(
        self, connection: sqlite3.Connection, books: VenueBooks, account: str, now: datetime
    ) -> "list[tuple[str, str, str, str, Leg | None]]":
        found: list[tuple[str, str, str, str, Leg | None]] = []
        for leg in books.working:
            if not book.has_order(connection, leg.client_order_id):
                terms = f"{leg.side} {format_decimal(leg.quantity)} {leg.symbol} {leg.type}"
                found.append(("outside_order", leg.client_order_id, "unknown", terms, leg))
        found += [
            ("outside_order", client_order_id, "unknown", "an order of another kind", None)
            for client_order_id in books.unreadable
            if not book.has_order(connection, client_order_id)
        ]
        moving = book.list_orders(connection, states=WORKING, limit=100_000)
        if any(
            order.state in {OrderState.SUBMITTED, OrderState.UNKNOWN} or now - order.updated_time < LASTS
            for order in moving
        ):
            return found  # what they fill may be known on one side only
        held, cash = self._held(connection)
        for symbol in sorted(held.keys() | books.positions.keys()):
            ours, theirs = held.get(symbol, Decimal(0)), books.positions.get(symbol, Decimal(0))
            if ours != theirs:
                found.append(("position", symbol, format_decimal(ours), format_decimal(theirs), None))
        if books.currency in cash and abs(cash[books.currency] - books.cash) >= CENT:
            ours = format_decimal(cash[books.currency])
            found.append(("cash", books.currency, ours, format_decimal(books.cash), None))
        return found

    def _held(self, connection: sqlite3.Connection) -> tuple[dict[str, Decimal], dict[str, Decimal]]:
        """Returns what all accounts hold together, by symbol, and their cash by currency."""
        factor = Pricer(self.archive, self.replay, self.replay.now()).split_factor
        held: dict[str, Decimal] = {}
        cash: dict[str, Decimal] = {}
        for name, currency, micros in connection.execute("SELECT account, currency, cash FROM accounts"):
            cash[currency] = cash.get(currency, Decimal(0)) + from_micros(micros)
            for symbol, holding in accounts.holdings(connection, name, factor):
                held[symbol] = held.get(symbol, Decimal(0)) + from_nanos(holding.quantity)
        return held, cash

    def _settle(
        self,
        kind: str,
        subject: str,
        desk: str,
        venue: str,
        leg: Leg | None,
        account: str,
        caller: Caller,
        now: datetime,
    ) -> str:
        detail = f"{subject}: the desk has {desk}, the venue {venue}"
        with self.store.unit() as unit:
            if kind == "outside_order" and leg is not None:
                try:
                    self.archive.instrument(leg.symbol)  # what has no prices can be neither booked nor valued
                    intent = _outside(leg, account)
                except (DataError, ValidationError) as error:
                    detail = f"{detail} ({str(error).splitlines()[0]})"
                else:
                    if not book.has_order(unit.connection, leg.client_order_id):
                        adopt(unit, intent, leg.client_order_id, f"outside/{subject}", caller, now=now)
                    return "adopted"
            if kind == "cash":
                if _is_known(unit.connection, detail):
                    return "recorded"
                payload = {"difference": kind, "detail": detail}
                seq = unit.append(AuditEntry.by(caller, EntryType.RECON, account=account, payload=payload))
                message = f"cash differs: {detail}"
                raise_alert(unit, caller=caller, kind=AlertKind.RECONCILIATION, message=message, seq=seq)
                return "recorded"
            open_account_break(unit, account, kind=kind, detail=detail, caller=caller, now=now)
            return "break"


def _outside(leg: Leg, account: str) -> OrderIntent:
    return OrderIntent(
        symbol=leg.symbol,
        side=leg.side,
        quantity=leg.quantity,
        type=leg.type,
        limit_price=leg.limit_price,
        stop_price=leg.stop_price,
        time_in_force=leg.time_in_force,
        account=account,
        agent=OUTSIDE,
        reason="placed outside this desk, and adopted by reconciliation",
    )


def _is_known(connection: sqlite3.Connection, detail: str) -> bool:
    """Tells whether the newest difference of cash on record is this one."""
    row = connection.execute(
        "SELECT CAST(entry AS TEXT) FROM audit_entries WHERE type = ? AND"
        ' instr(CAST(entry AS TEXT), \'"difference":"cash"\') ORDER BY seq DESC LIMIT 1',
        (EntryType.RECON,),
    ).fetchone()
    return row is not None and detail in row[0]
