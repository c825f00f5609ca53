"""Leases: how long an agent that went silent is still trusted with working orders.

An agent's server renews its lease on every call and while its client is connected. One that stops
lets the lease run out: from then on its orders are refused, and whatever process settles next
cancels what still works. An agent that never held a lease is not bound by one.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.identity import Caller
from neural_trader_governance.terms.clocks import format_time, from_epoch_us, to_epoch_us

SCHEMA = """
CREATE TABLE IF NOT EXISTS leases (
  agent TEXT PRIMARY KEY, principal TEXT NOT NULL, expires_us INTEGER NOT NULL, lost INTEGER NOT NULL) STRICT;
"""
"""`lost`: that the lease ran out is on the record, and its orders were canceled for it."""


class LeaseUnit(Protocol):
    """What a lease needs of the store's unit: its connection and its log."""

    connection: sqlite3.Connection

    def append(self, entry: AuditEntry) -> int:
        """Appends an audit entry and returns its seq."""
        ...


@dataclass(frozen=True, slots=True)
class Lease:
    """Until when an agent is trusted to be there."""

    agent: str
    principal: str
    expires_time: datetime
    lost: bool

    def has_run_out(self, now: datetime) -> bool:
        """Says whether the agent failed to renew in time."""
        return now >= self.expires_time


def read(connection: sqlite3.Connection, agent: str) -> Lease | None:
    """Returns an agent's lease, or None if it never held one."""
    row = connection.execute(
        "SELECT agent, principal, expires_us, lost FROM leases WHERE agent = ?", (agent,)
    ).fetchone()
    return None if row is None else _read(row)


def read_all(connection: sqlite3.Connection) -> list[Lease]:
    """Returns every agent's lease, by name."""
    rows = connection.execute(
        "SELECT agent, principal, expires_us, lost FROM leases ORDER BY agent"
    ).fetchall()
    return [_read(row) for row in rows]


def is_due(lease: Lease | None, *, now: datetime, duration: timedelta) -> bool:
    """Says whether a renewal is worth a write: half of the lease is gone, or there is none."""
    return lease is None or lease.lost or not now + duration / 2 <= lease.expires_time <= now + duration


def renew(connection: sqlite3.Connection, caller: Caller, *, now: datetime, duration: timedelta) -> None:
    """Gives the calling agent its lease anew; people need none."""
    if caller.is_person:
        return
    connection.execute(
        "INSERT INTO leases VALUES (?, ?, ?, 0) ON CONFLICT (agent) DO UPDATE SET"
        " principal = excluded.principal, expires_us = excluded.expires_us, lost = 0",
        (caller.agent, caller.principal, to_epoch_us(now + duration)),
    )


def is_lost(connection: sqlite3.Connection, agent: str, *, now: datetime) -> bool:
    """Says whether the agent's lease ran out; ask inside the transaction that acts on the answer."""
    lease = read(connection, agent)
    return lease is not None and lease.has_run_out(now)


def run_out(connection: sqlite3.Connection, *, now: datetime) -> list[Lease]:
    """Returns the leases that ran out and are not on the record as lost yet."""
    rows = connection.execute(
        "SELECT agent, principal, expires_us, lost FROM leases WHERE expires_us <= ? AND NOT lost"
        " ORDER BY agent",
        (to_epoch_us(now),),
    ).fetchall()
    return [_read(row) for row in rows]


def mark_lost(unit: LeaseUnit, lease: Lease, *, client_order_ids: list[str]) -> None:
    """Marks a lease that ran out; where it leaves orders behind, that is logged, which raises the alert.

    An agent that simply went home, with nothing left working, is no news.
    """
    unit.connection.execute("UPDATE leases SET lost = 1 WHERE agent = ?", (lease.agent,))
    if not client_order_ids:
        return
    payload = {
        "expired": format_time(lease.expires_time),
        "canceling": len(client_order_ids),
        "client_order_ids": client_order_ids[:200],  # the rest is in their own broker.cancel entries
    }
    caller = Caller(principal=lease.principal, agent=lease.agent)
    unit.append(AuditEntry.by(caller, EntryType.LEASE_LOST, payload=payload))


def _read(row: tuple[str, str, int, int]) -> Lease:
    return Lease(str(row[0]), str(row[1]), from_epoch_us(int(row[2])), bool(row[3]))
