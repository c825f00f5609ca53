"""Halts: the kill switch. Agents and people may pull it; only a person releases it.

The halt is a row of the store, read inside the very transaction that submits an order, so that a
halt by any process holds from its commit on.
"""

import sqlite3
from dataclasses import dataclass
from typing import Protocol

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.identity import Caller

SCHEMA = """
CREATE TABLE IF NOT EXISTS halts (
  scope TEXT PRIMARY KEY, reason TEXT NOT NULL, principal TEXT NOT NULL, agent TEXT NOT NULL,
  seq INTEGER NOT NULL) STRICT;
"""
_EVERYTHING = "all"
_REASON_MAX = 500


class HaltUnit(Protocol):
    """What a halt needs of the store's unit: its connection and its log."""

    connection: sqlite3.Connection

    def append(self, entry: AuditEntry) -> int:
        """Appends an audit entry and returns its seq."""
        ...


@dataclass(frozen=True, slots=True)
class Halt:
    """Trading stands still: why, by whose hand, and the entry that says so."""

    reason: str
    principal: str
    agent: str
    seq: int


def halt(unit: HaltUnit, *, reason: str, caller: Caller) -> Halt:
    """Stops trading and logs it. A halt on top of a halt is logged too; the first one stands.

    Raises:
        InputError: the reason is empty or longer than 500 characters.
    """
    reason = reason.strip()
    if not 0 < len(reason) <= _REASON_MAX:
        raise InputError(
            "invalid_reason", f"the reason has {len(reason)} characters", f"give 1 to {_REASON_MAX}"
        )
    seq = unit.append(AuditEntry.by(caller, EntryType.KILL, payload={"scope": _EVERYTHING, "reason": reason}))
    unit.connection.execute(
        "INSERT INTO halts (scope, reason, principal, agent, seq) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (scope) DO NOTHING",
        (_EVERYTHING, reason, caller.principal, caller.agent, seq),
    )
    standing = read_halt(unit.connection)
    assert standing is not None  # noqa: S101 - the row was written two lines above
    return standing


def resume(unit: HaltUnit, *, caller: Caller) -> None:
    """Releases the halt and logs it.

    Raises:
        RiskError: `person_required` when an agent asks, `not_halted` when nothing stands still.
    """
    if not caller.is_person:
        raise RiskError(
            "person_required",
            f"the agent {caller.agent} asked to resume trading, which only a person may do",
            "let a person run `neural-trader resume`",
        )
    standing = read_halt(unit.connection)
    if standing is None:
        raise RiskError("not_halted", "trading is not halted", "carry on")
    unit.append(
        AuditEntry.by(caller, EntryType.RESUME, payload={"scope": _EVERYTHING, "halt_seq": standing.seq})
    )
    unit.connection.execute("DELETE FROM halts WHERE scope = ?", (_EVERYTHING,))


def read_halt(connection: sqlite3.Connection) -> Halt | None:
    """Returns the halt that stands, or None; ask inside the transaction that acts on the answer."""
    row = connection.execute(
        "SELECT reason, principal, agent, seq FROM halts WHERE scope = ?", (_EVERYTHING,)
    ).fetchone()
    return None if row is None else Halt(str(row[0]), str(row[1]), str(row[2]), int(row[3]))
