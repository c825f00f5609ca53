"""Parents and their children, as rows beside the orders: what is executed on somebody's behalf, and how far.

A child's row names the preview, and so the one order, that it can become, before that order is sent. Whoever
dies in between leaves a row that the next process settles: a preview is single use, so asking again sends
nothing twice.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from pydantic import TypeAdapter

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import InputError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Unit
from neural_trader_governance.terms.clocks import from_epoch_us, to_epoch_us
from neural_trader_governance.terms.money import from_nanos, to_nanos
from neural_trader_governance.terms.orders import OrderState
from neural_trader_tools.orders.algos.plan import Leg, Plan
from neural_trader_tools.orders.machine import WORKING

SCHEMA = """
CREATE TABLE IF NOT EXISTS parents (
    parent_id  TEXT PRIMARY KEY,
    account    TEXT NOT NULL,
    agent      TEXT NOT NULL,
    principal  TEXT NOT NULL,
    legs       TEXT NOT NULL,
    plan       TEXT NOT NULL,
    reason     TEXT NOT NULL,
    strategy   TEXT NOT NULL,
    state      TEXT NOT NULL,
    detail     TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    retry_us   INTEGER NOT NULL,
    audit_seq  INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS parents_by_state ON parents (state);
CREATE TABLE IF NOT EXISTS children (
    parent_id       TEXT NOT NULL REFERENCES parents (parent_id),
    number          INTEGER NOT NULL,
    leg             INTEGER NOT NULL,
    quantity        INTEGER NOT NULL,
    preview_id      TEXT NOT NULL UNIQUE,
    client_order_id TEXT NOT NULL UNIQUE,
    void            TEXT NOT NULL,
    PRIMARY KEY (parent_id, number)
) STRICT, WITHOUT ROWID;
"""
"""`retry_us` is the machine's clock; `void` says why a child never became an order, empty while it may."""

_LEGS = TypeAdapter(tuple[Leg, ...])
_REPLACED = OrderState.REPLACED


class ParentState(StrEnum):
    """`running` sends; `canceling` sends nothing and cancels what works; the others are over."""

    RUNNING = "running"
    CANCELING = "canceling"
    DONE = "done"
    ENDED = "ended"
    CANCELED = "canceled"
    STOPPED = "stopped"


OPEN = frozenset({ParentState.RUNNING, ParentState.CANCELING})


@dataclass(frozen=True, slots=True)
class Parent:
    """One parent as stored."""

    parent_id: str
    account: str
    caller: Caller
    legs: tuple[Leg, ...]
    plan: Plan
    reason: str
    strategy: str
    state: ParentState
    detail: str
    created_time: datetime
    retry_time: datetime
    audit_seq: int


@dataclass(frozen=True, slots=True)
class Child:
    """One child: its row, and how far its order came; `state` is None while there is no order."""

    number: int
    leg: int
    quantity: Decimal
    preview_id: str
    client_order_id: str
    void: str
    state: OrderState | None
    filled: Decimal

    @property
    def is_pending(self) -> bool:
        """Whether it may still become an order."""
        return self.state is None and not self.void

    @property
    def is_working(self) -> bool:
        """Whether the venue may still fill it."""
        return self.state in WORKING

    @property
    def sent(self) -> Decimal:
        """What it filled, or may still fill; the replacement of a child may fill the rest of it."""
        if self.is_pending or self.is_working or self.state == _REPLACED:
            return self.quantity
        return self.filled


def insert_parent(unit: Unit, parent: Parent) -> int:
    """Stores a new parent with its audit entry; returns the entry's seq."""
    payload = {
        "parent_id": parent.parent_id,
        "state": parent.state.value,
        "legs": [leg.model_dump(mode="json") for leg in parent.legs],
        "plan": parent.plan.model_dump(mode="json"),
        "reason": parent.reason,
        "strategy": parent.strategy,
    }
    entry = AuditEntry.by(parent.caller, EntryType.ORDER_PARENT, account=parent.account, payload=payload)
    seq = unit.append(entry)
    unit.connection.execute(
        "INSERT INTO parents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            parent.parent_id,
            parent.account,
            parent.caller.agent,
            parent.caller.principal,
            _LEGS.dump_json(parent.legs).decode(),
            parent.plan.model_dump_json(),
            parent.reason,
            parent.strategy,
            parent.state.value,
            parent.detail,
            to_epoch_us(parent.created_time),
            to_epoch_us(parent.retry_time),
            seq,
        ),
    )
    return seq


def find_parent(connection: sqlite3.Connection, parent_id: str) -> Parent:
    """Returns one parent.

    Raises:
        InputError: `unknown_parent`.
    """
    row = connection.execute("SELECT * FROM parents WHERE parent_id = ?", (parent_id,)).fetchone()
    if row is None:
        raise InputError(
            "unknown_parent", f"there is no parent {parent_id!r:.40}", "see `neural-trader algos list --all`"
        )
    return _read(row)


def list_parents(connection: sqlite3.Connection, *, open_only: bool) -> list[Parent]:
    """Returns parents, oldest first."""
    states = sorted(OPEN if open_only else ParentState)
    marks = ", ".join("?" for _ in states)
    rows = connection.execute(
        f"SELECT * FROM parents WHERE state IN ({marks}) ORDER BY audit_seq",  # noqa: S608 - only marks
        states,
    ).fetchall()
    return [_read(row) for row in rows]


def move_parent(unit: Unit, parent: Parent, state: ParentState, *, caller: Caller, why: str) -> bool:
    """Moves a parent on, with an audit entry; False where somebody did already, or it is over."""
    now = find_parent(unit.connection, parent.parent_id).state
    if now == state or now not in OPEN:
        return False
    payload = {"parent_id": parent.parent_id, "state": state.value, "reason": why[:300]}
    unit.append(AuditEntry.by(caller, EntryType.ORDER_PARENT, account=parent.account, payload=payload))
    unit.connection.execute(
        "UPDATE parents SET state = ?, detail = ? WHERE parent_id = ?",
        (state.value, why[:300], parent.parent_id),
    )
    return True


def postpone(connection: sqlite3.Connection, parent_id: str, *, until: datetime, why: str) -> None:
    """Lets a parent wait, by the machine's clock."""
    connection.execute(
        "UPDATE parents SET retry_us = ?, detail = ? WHERE parent_id = ?",
        (to_epoch_us(until), why[:300], parent_id),
    )


def children_of(connection: sqlite3.Connection, parent_id: str) -> list[Child]:
    """Returns the children of a parent by number, each with the state of its order."""
    rows = connection.execute(
        "SELECT number, leg, children.quantity, children.preview_id, children.client_order_id, void, state,"
        " COALESCE(filled, 0) FROM children LEFT JOIN orders USING (client_order_id)"
        " WHERE parent_id = ? ORDER BY number",
        (parent_id,),
    ).fetchall()
    return [
        Child(
            row[0],
            row[1],
            from_nanos(row[2]),
            row[3],
            row[4],
            row[5],
            None if row[6] is None else OrderState(row[6]),
            from_nanos(row[7]),
        )
        for row in rows
    ]


def insert_child(
    connection: sqlite3.Connection,
    parent_id: str,
    *,
    leg: int,
    quantity: Decimal,
    preview_id: str,
    client_order_id: str,
) -> int:
    """Stores the next child of a parent and returns its number, from 1."""
    count = connection.execute("SELECT COUNT(*) FROM children WHERE parent_id = ?", (parent_id,)).fetchone()[
        0
    ]
    connection.execute(
        "INSERT INTO children VALUES (?, ?, ?, ?, ?, ?, '')",
        (parent_id, count + 1, leg, to_nanos(quantity), preview_id, client_order_id),
    )
    return int(count) + 1


def void_child(connection: sqlite3.Connection, child: Child, why: str) -> None:
    """Records that a child will never be an order; one that is an order stays as it is."""
    connection.execute(
        "UPDATE children SET void = ? WHERE client_order_id = ? AND NOT EXISTS"
        " (SELECT 1 FROM orders WHERE orders.client_order_id = children.client_order_id)",
        (why[:300] or "void", child.client_order_id),
    )


def _read(row: tuple[str | int, ...]) -> Parent:
    return Parent(
        parent_id=str(row[0]),
        account=str(row[1]),
        caller=Caller(principal=str(row[3]), agent=str(row[2])),
        legs=_LEGS.validate_json(str(row[4])),
        plan=Plan.model_validate_json(str(row[5])),
        reason=str(row[6]),
        strategy=str(row[7]),
        state=ParentState(str(row[8])),
        detail=str(row[9]),
        created_time=from_epoch_us(int(row[10])),
        retry_time=from_epoch_us(int(row[11])),
        audit_seq=int(row[12]),
    )
