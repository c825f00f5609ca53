"""The ledger: what venues answered, written down once, each answer in one transaction with its entries."""

import sqlite3
from collections.abc import Mapping
from datetime import datetime
from decimal import ROUND_CEILING, Decimal

from neural_trader_governance import mandates
from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import IntegrityError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store, Unit
from neural_trader_governance.terms.clocks import Clock
from neural_trader_governance.terms.fills import Fill
from neural_trader_governance.terms.money import MICRO, to_micros, to_nanos
from neural_trader_governance.terms.orders import Order, OrderIntent, OrderState
from neural_trader_tools.brokers import synthetic
from neural_trader_tools.brokers.port import BrokerReport, Leg
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.orders import accounts, book, messages
from neural_trader_tools.orders.breaks import open_break
from neural_trader_tools.orders.machine import WORKING, Event, follow
from neural_trader_tools.orders.previews import hash_intent
from neural_trader_tools.orders.valuation import Pricer


class Ledger:
    """Books reports. Booking the same report twice, from any process, changes nothing."""

    def __init__(self, store: Store, archive: Archive, replay: ReplayClock, clock: Clock) -> None:
        self._store = store
        self._archive = archive
        self._replay = replay
        self._clock = clock

    def record_report(self, report: BrokerReport, caller: Caller, reconciled: bool) -> OrderState:
        """Books a venue's answer: its new fills, and the order's state; returns that state.

        An answer that brings no new fill cannot move an order that is finished. One that was found
        by reconciliation is logged as `recon`; a submission that the venue never saw ends canceled.

        Raises:
            IntegrityError: the venue reports more or other than was ordered; nothing is booked, and the
                contradiction stays open as a break until a person resolves it.
        """
        try:
            return self._record_report(report, caller, reconciled)
        except IntegrityError as error:
            self.record_break(report.client_order_id, error.code, error.what, caller)
            raise

    def record_break(self, client_order_id: str, kind: str, detail: str, caller: Caller) -> None:
        """Writes down that the venue contradicts the desk about an order; its account stands still."""
        with self._store.unit() as unit:
            order = book.find_order(unit.connection, client_order_id)
            open_break(unit, order, kind=kind, detail=detail, caller=caller, now=self._clock.now())

    def _record_report(self, report: BrokerReport, caller: Caller, reconciled: bool) -> OrderState:
        with self._store.unit() as unit:
            connection, now = unit.connection, self._clock.now()
            order = book.find_order(connection, report.client_order_id)
            event = Event(report.state)
            if reconciled and order.state == OrderState.SUBMITTED and event == Event.REJECTED:
                event = Event.NEVER_ARRIVED
            fresh = _unbooked(connection, order, report)
            filled = order.filled_quantity + sum((fill.quantity for fill in fresh), Decimal(0))
            if event == Event.FILLED and filled == report.filled:
                # Less than was ordered: the venue has shrunk it, by what filled a sibling or an order that it
                # replaced. Nothing more comes.
                event = Event.FILLED if filled >= order.intent.quantity else Event.CANCELED
            after = follow(order.state, event, filled=filled, quantity=order.intent.quantity)
            legs = [leg for leg in report.legs if not book.has_order(connection, leg.client_order_id)]
            if not fresh and after == order.state and not legs:
                return order.state
            kind = EntryType.RECON if reconciled else EntryType.BROKER_ACK
            said = {"state": after.value, "said": event.value, "detail": report.detail}
            unit.append(order_entry(kind, order, caller, said))
            for fill in fresh:
                self._book_fill(unit, order, fill, caller)
            after = book.move_order(connection, order.client_order_id, event, now=now, detail=report.detail)
            if after not in WORKING:
                mandates.release(connection, order.client_order_id)
            for leg in legs:
                adopt_leg(unit, order, leg, caller, now=now)
            return after

    def _book_fill(self, unit: Unit, order: Order, fill: Fill, caller: Caller) -> None:
        intent = order.intent
        theirs = (fill.client_order_id, fill.symbol, fill.side)
        if theirs != (order.client_order_id, intent.symbol, intent.side):
            raise IntegrityError(
                "foreign_fill",
                f"{order.client_order_id} is to {intent.side} {intent.symbol}, but the venue reports"
                f" {fill.execution_id}: {fill.side} {fill.symbol} of {fill.client_order_id}",
                "halt trading and compare with the venue: neural-trader orders reconcile",
            )
        payload = fill.model_dump(mode="json")
        seq = unit.append(order_entry(EntryType.BROKER_FILL, order, caller, payload))
        left = book.open_quantity(unit.connection, order.client_order_id)
        book.add_fill(unit.connection, order.client_order_id, quantity=fill.quantity, price=fill.price)
        mandates.book_fill(
            unit.connection,
            order.client_order_id,
            value_micros=to_micros((fill.quantity * fill.price).quantize(MICRO, ROUND_CEILING)),
            quantity_nanos=to_nanos(fill.quantity),
            left_nanos=to_nanos(left),
        )
        accounts.post_fill(
            unit.connection,
            account=intent.account,
            fill=fill,
            audit_seq=seq,
            split_between=self._split_between,
        )

    def _split_between(self, symbol: str, since: datetime, until: datetime) -> Decimal:
        return Pricer(self._archive, self._replay, until).split_factor(symbol, since)

    def record_unknown(self, client_order_id: str, why: str, caller: Caller) -> None:
        """Records that a submission's outcome is unclear; it stays reserved until reconciled."""
        with self._store.unit() as unit:
            order = book.find_order(unit.connection, client_order_id)
            if order.state not in {OrderState.SUBMITTED, OrderState.UNKNOWN}:
                return
            book.move_order(
                unit.connection, client_order_id, Event.UNCLEAR, now=self._clock.now(), detail=why[:300]
            )
            unit.append(
                order_entry(EntryType.BROKER_ACK, order, caller, {"state": "unknown", "detail": why[:300]})
            )


def _unbooked(connection: sqlite3.Connection, order: Order, report: BrokerReport) -> list[Fill]:
    """Returns the fills of a report that are not booked, each once.

    An execution id is booked once. What a synthetic fill was booked for (`brokers/synthetic.py`) is not
    booked again when its true executions are listed at last.

    Raises:
        IntegrityError: with them, more would be booked than the venue says is filled; or a fill comes to
            an order that the venue had refused.
    """
    booked = accounts.fills_of(connection, order.client_order_id)
    covered = [span for fill in booked if (span := synthetic.span_of(fill.execution_id)) is not None]
    known = {fill.execution_id for fill in booked}
    fresh: list[Fill] = []
    start = Decimal(0)
    for fill in report.fills:
        end = start + fill.quantity
        is_covered = any(first <= start and end <= last for first, last in covered)
        if fill.execution_id not in known and not is_covered:
            if not accounts.has_fill(connection, fill.execution_id):
                fresh.append(fill)
            known.add(fill.execution_id)
        start = end
    filled = order.filled_quantity + sum((fill.quantity for fill in fresh), Decimal(0))
    if fresh and (order.state == OrderState.REJECTED or filled > (report.filled or filled)):
        raise IntegrityError(
            "fills_disagree",
            f"{order.client_order_id} is {order.state} with {order.filled_quantity} filled, and the venue"
            f" lists {len(fresh)} more fills for {report.filled or filled} in all",
            "halt trading and compare with the venue: neural-trader orders reconcile",
        )
    return fresh


def ask_cancel(unit: Unit, order: Order, caller: Caller, *, now: datetime, why: str) -> bool:
    """Writes down, counts and logs that an order is to be canceled; False if there is nothing to ask.

    The venue is asked after the commit; whoever dies in between, reconciliation asks it again.
    """
    if order.state not in WORKING or order.state == OrderState.PENDING_CANCEL:
        return order.state == OrderState.PENDING_CANCEL
    book.move_order(unit.connection, order.client_order_id, Event.CANCEL_ASKED, now=now, detail=why)
    messages.count_cancel(unit.connection, order.intent, now=now)
    unit.append(order_entry(EntryType.BROKER_CANCEL, order, caller, {"why": why}))
    return True


def order_entry(kind: EntryType, order: Order, caller: Caller, payload: Mapping[str, object]) -> AuditEntry:
    """Returns an audit entry about one order."""
    return AuditEntry.by(
        caller,
        kind,
        account=order.intent.account,
        symbol=order.intent.symbol,
        intent_hash=order.intent_hash,
        client_order_id=order.client_order_id,
        payload=payload,
    )


def ask_replace(
    unit: Unit, intent: OrderIntent, client_order_id: str, caller: Caller, *, now: datetime
) -> None:
    """Writes down that an order is to take another's place; the venue is asked after the commit.

    Raises:
        RiskError: `cannot_replace`: the other is no working order of this agent, or another kind of order.
    """
    old = book.find_order(unit.connection, intent.replaces or "")
    terms = ("account", "agent", "symbol", "side", "type")
    differs = [name for name in terms if getattr(old.intent, name) != getattr(intent, name)]
    if old.state != OrderState.ACCEPTED or old.filled_quantity or differs:
        why = f"differs in {', '.join(differs)}" if differs else f"is {old.state}"
        raise RiskError(
            "cannot_replace",
            f"{old.client_order_id} {why}",
            "replace a working order without fills by one of its kind; else cancel, and preview anew",
        )
    why = f"replaced by {client_order_id}"
    book.move_order(unit.connection, old.client_order_id, Event.REPLACE_ASKED, now=now, detail=why)
    payload = {"why": why, "said": Event.REPLACE_ASKED.value}
    unit.append(order_entry(EntryType.BROKER_CANCEL, old, caller, payload))


def refuse_replace(unit: Unit, order: Order, caller: Caller, *, now: datetime) -> OrderState:
    """Writes down that an order goes on as it was: what should have taken its place did not."""
    payload = {"said": Event.REPLACE_REFUSED.value, "state": OrderState.ACCEPTED.value, "detail": ""}
    unit.append(order_entry(EntryType.RECON, order, caller, payload))
    return book.move_order(unit.connection, order.client_order_id, Event.REPLACE_REFUSED, now=now)


def adopt_leg(unit: Unit, parent: Order, leg: Leg, caller: Caller, *, now: datetime) -> None:
    """Takes an exit that the venue made of an order into the books of its agent, account and strategy.

    Its entry order was judged with it; nothing is reserved for it, since it closes what that one opened.
    """
    intent = OrderIntent(
        symbol=leg.symbol,
        side=leg.side,
        quantity=leg.quantity,
        type=leg.type,
        limit_price=leg.limit_price,
        stop_price=leg.stop_price,
        time_in_force=leg.time_in_force,
        account=parent.intent.account,
        agent=parent.intent.agent,
        reason=f"exit of {parent.client_order_id}",
        strategy_id=parent.intent.strategy_id,
    )
    adopt(unit, intent, leg.client_order_id, f"{parent.preview_id}/{leg.type}", caller, now=now)


def adopt(
    unit: Unit, intent: OrderIntent, client_order_id: str, origin: str, caller: Caller, *, now: datetime
) -> None:
    """Takes an order that the venue works, and this desk did not send, into the books."""
    digest = hash_intent(intent)
    payload = {"adopted": intent.model_dump(mode="json"), "origin": origin}
    seq = unit.append(
        AuditEntry.by(
            caller,
            EntryType.RECON,
            account=intent.account,
            symbol=intent.symbol,
            intent_hash=digest,
            client_order_id=client_order_id,
            payload=payload,
        )
    )
    order = book.NewOrder(client_order_id, origin, intent, digest, Decimal(0), now, seq)
    book.insert_order(unit.connection, order)
    taken = {"said": Event.ACCEPTED.value, "state": OrderState.ACCEPTED.value, "detail": "adopted"}
    entry = order_entry(EntryType.RECON, book.find_order(unit.connection, client_order_id), caller, taken)
    unit.append(entry)
    book.move_order(unit.connection, client_order_id, Event.ACCEPTED, now=now, detail="adopted")
