"""The order book of the desk itself: one row per submitted order, moved only through the state machine."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal

from neural_trader_governance.errors import ExecutionError, IntegrityError
from neural_trader_governance.terms.clocks import from_epoch_us, to_epoch_us
from neural_trader_governance.terms.money import MICRO, from_micros, from_nanos, to_micros, to_nanos
from neural_trader_governance.terms.orders import Order, OrderIntent, OrderState
from neural_trader_tools.orders.machine import WORKING, Event, follow

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    client_order_id TEXT PRIMARY KEY,
    preview_id      TEXT NOT NULL UNIQUE,
    account         TEXT NOT NULL,
    agent           TEXT NOT NULL,
    symbol          TEXT NOT NULL,
    side            TEXT NOT NULL,
    intent          TEXT NOT NULL,
    intent_hash     TEXT NOT NULL,
    state           TEXT NOT NULL,
    quantity        INTEGER NOT NULL,
    filled          INTEGER NOT NULL,
    filled_value    INTEGER NOT NULL,
    reserved        INTEGER NOT NULL,
    created_us      INTEGER NOT NULL,
    updated_us      INTEGER NOT NULL,
    audit_seq       INTEGER NOT NULL,
    detail          TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS orders_by_state ON orders (state);
CREATE INDEX IF NOT EXISTS orders_by_agent_time ON orders (agent, created_us);
"""
"""Quantities are nano-units; `filled_value` (sum of price x quantity) and `reserved` are micros."""


@dataclass(frozen=True, slots=True)
class NewOrder:
    """What a submission writes, in the transaction that also writes its audit entries."""

    client_order_id: str
    preview_id: str
    intent: OrderIntent
    intent_hash: str
    reserved: Decimal
    created_time: datetime
    audit_seq: int


def insert_order(connection: sqlite3.Connection, order: NewOrder) -> None:
    """Stores a submitted order with its cash reservation."""
    now = to_epoch_us(order.created_time)
    intent = order.intent
    connection.execute(
        "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?, ?, ?, '')",
        (
            order.client_order_id,
            order.preview_id,
            intent.account,
            intent.agent,
            intent.symbol,
            intent.side,
            intent.model_dump_json(),
            order.intent_hash,
            OrderState.SUBMITTED,
            to_nanos(intent.quantity),
            to_micros(order.reserved),
            now,
            now,
            order.audit_seq,
        ),
    )


def find_order(connection: sqlite3.Connection, client_order_id: str) -> Order:
    """Returns one order.

    Raises:
        ExecutionError: there is none of that id.
    """
    row = connection.execute("SELECT * FROM orders WHERE client_order_id = ?", (client_order_id,)).fetchone()
    if row is None:
        raise ExecutionError(
            "unknown_order",
            f"there is no order {client_order_id!r:.60}",
            "call orders_list for the ids that exist",
        )
    return _read(row)


def has_order(connection: sqlite3.Connection, client_order_id: str) -> bool:
    """Tells whether the desk has an order of this id."""
    query = "SELECT 1 FROM orders WHERE client_order_id = ?"
    return connection.execute(query, (client_order_id,)).fetchone() is not None


def replacement_of(connection: sqlite3.Connection, client_order_id: str) -> Order | None:
    """Returns the newest order that was to take the place of another."""
    row = connection.execute(
        "SELECT * FROM orders WHERE audit_seq > (SELECT audit_seq FROM orders WHERE client_order_id = ?1)"
        " AND json_extract(intent, '$.replaces') = ?1 ORDER BY audit_seq DESC LIMIT 1",
        (client_order_id,),
    ).fetchone()
    return None if row is None else _read(row)


def list_orders(
    connection: sqlite3.Connection,
    *,
    states: frozenset[OrderState] | None = None,
    agent: str | None = None,
    limit: int = 50,
) -> list[Order]:
    """Returns orders, newest first; all states and agents unless some are named."""
    wanted = sorted(states) if states is not None else sorted(OrderState)
    marks = ", ".join("?" for _ in wanted)
    rows = connection.execute(
        f"SELECT * FROM orders WHERE state IN ({marks}) AND agent = COALESCE(?, agent)"  # noqa: S608 - only marks
        " ORDER BY audit_seq DESC LIMIT ?",
        (*wanted, agent, limit),
    ).fetchall()
    return [_read(row) for row in rows]


def move_order(
    connection: sqlite3.Connection,
    client_order_id: str,
    event: Event,
    *,
    now: datetime,
    detail: str = "",
) -> OrderState:
    """Moves an order through the state machine; a finished order frees its reservation.

    Raises:
        ExecutionError: the table has no such transition.
    """
    order = find_order(connection, client_order_id)
    following = follow(order.state, event, filled=order.filled_quantity, quantity=order.intent.quantity)
    connection.execute(
        "UPDATE orders SET state = ?, updated_us = ?, detail = ?,"
        " reserved = CASE WHEN ? THEN reserved ELSE 0 END WHERE client_order_id = ?",
        (following, to_epoch_us(now), detail, following in WORKING, client_order_id),
    )
    return following


def open_quantity(connection: sqlite3.Connection, client_order_id: str) -> Decimal:
    """Returns what of an order has not been filled."""
    row = connection.execute(
        "SELECT quantity - filled FROM orders WHERE client_order_id = ?", (client_order_id,)
    ).fetchone()
    return from_nanos(int(row[0]))


def add_fill(
    connection: sqlite3.Connection, client_order_id: str, *, quantity: Decimal, price: Decimal
) -> None:
    """Adds one execution to the order's filled quantity and value; releases its share of the reservation."""
    row = connection.execute(
        "SELECT quantity, filled, reserved FROM orders WHERE client_order_id = ?", (client_order_id,)
    ).fetchone()
    nanos, left = to_nanos(quantity), int(row[0]) - int(row[1])
    if nanos > left:
        raise IntegrityError(
            "overfill",
            f"{client_order_id} has {from_nanos(left)} left, but the venue reports a fill of {quantity}",
            "halt trading and compare with the venue: neural-trader orders reconcile",
        )
    value = to_micros((quantity * price).quantize(MICRO, ROUND_HALF_EVEN))
    connection.execute(
        "UPDATE orders SET filled = filled + ?, filled_value = filled_value + ?, reserved = ?"
        " WHERE client_order_id = ?",
        (nanos, value, int(row[2]) * (left - nanos) // left, client_order_id),
    )


def _read(row: tuple[str | int, ...]) -> Order:
    filled, value = from_nanos(int(row[10])), from_micros(int(row[11]))
    return Order(
        client_order_id=str(row[0]),
        preview_id=str(row[1]),
        intent=OrderIntent.model_validate_json(str(row[6])),
        intent_hash=str(row[7]),
        state=OrderState(str(row[8])),
        filled_quantity=filled,
        average_price=(value / filled).quantize(MICRO, ROUND_HALF_EVEN) if filled else None,
        created_time=from_epoch_us(int(row[13])),
        updated_time=from_epoch_us(int(row[14])),
        audit_seq=int(row[15]),
        detail=str(row[16]),
    )
