"""Throttles: an agent that repeats itself too often is switched off until a person looks at it.

RTS 6 Art. 15(3): after a set number of repeated executions a system is disabled until a designated
person enables it again. The switch is a row of the store, so that it outlives every process.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.terms.clocks import to_epoch_us

SCHEMA = """
CREATE TABLE IF NOT EXISTS throttles (
  agent TEXT PRIMARY KEY, tripped INTEGER NOT NULL, reason TEXT NOT NULL, seq INTEGER NOT NULL,
  enabled_us INTEGER NOT NULL) STRICT;
"""
"""`enabled_us`: when a person enabled the agent last; what it sent before is counted no more."""

_REASON_MAX = 500


class ThrottleUnit(Protocol):
    """What a throttle needs of the store's unit: its connection and its log."""

    connection: sqlite3.Connection

    def append(self, entry: AuditEntry) -> int:
        """Appends an audit entry and returns its seq."""
        ...


@dataclass(frozen=True, slots=True)
class Throttle:
    """Whether an agent is switched off, why, and since when its orders count.

    Attributes:
        tripped: It is switched off.
        reason: Why, in words; empty if it is not.
        seq: The entry that says so; -1 for an agent that never tripped.
        enabled_us: When a person enabled it last; 0 if nobody ever had to.
    """

    tripped: bool = False
    reason: str = ""
    seq: int = -1
    enabled_us: int = 0


def read(connection: sqlite3.Connection, agent: str) -> Throttle:
    """Returns how the agent stands; ask inside the transaction that acts on the answer."""
    row = connection.execute(
        "SELECT tripped, reason, seq, enabled_us FROM throttles WHERE agent = ?", (agent,)
    ).fetchone()
    return Throttle() if row is None else Throttle(bool(row[0]), str(row[1]), int(row[2]), int(row[3]))


def tripped(connection: sqlite3.Connection) -> list[tuple[str, Throttle]]:
    """Returns every agent that is switched off, by name."""
    rows = connection.execute("SELECT agent FROM throttles WHERE tripped ORDER BY agent").fetchall()
    return [(str(agent), read(connection, agent)) for (agent,) in rows]


def trip(unit: ThrottleUnit, *, caller: Caller, reason: str, symbol: str | None = None) -> None:
    """Switches the calling agent off and logs it (which raises the alert); a second time does nothing."""
    if read(unit.connection, caller.agent).tripped:
        return
    entry = AuditEntry.by(
        caller, EntryType.THROTTLE_TRIP, symbol=symbol, payload={"reason": reason[:_REASON_MAX]}
    )
    seq = unit.append(entry)
    unit.connection.execute(
        "INSERT INTO throttles VALUES (?, 1, ?, ?, 0)"
        " ON CONFLICT (agent) DO UPDATE SET tripped = 1, reason = excluded.reason, seq = excluded.seq",
        (caller.agent, reason[:_REASON_MAX], seq),
    )


def enable(unit: ThrottleUnit, agent: str, *, person: Caller, reason: str, now: datetime) -> int:
    """Switches an agent on again, by a person's word, and logs it; returns the entry's seq.

    Raises:
        RiskError: `person_required` when an agent asks, `not_throttled` where it is not switched off.
        InputError: the reason is empty or longer than 500 characters.
    """
    if not person.is_person:
        raise RiskError(
            "person_required",
            f"the agent {person.agent} asked to enable {agent!r:.60}, which only a person may do",
            f"let a person run `neural-trader orders enable {agent}`",
        )
    if not 0 < len(reason := reason.strip()) <= _REASON_MAX:
        raise InputError(
            "invalid_reason", f"the reason has {len(reason)} characters", f"give 1 to {_REASON_MAX}"
        )
    standing = read(unit.connection, agent)
    if not standing.tripped:
        raise RiskError("not_throttled", f"the agent {agent!r:.60} is not switched off", "carry on")
    payload = {"enabled_agent": agent, "reason": reason, "trip_seq": standing.seq}
    seq = unit.append(AuditEntry.by(person, EntryType.THROTTLE_ENABLE, payload=payload))
    unit.connection.execute(
        "UPDATE throttles SET tripped = 0, reason = '', seq = ?, enabled_us = ? WHERE agent = ?",
        (seq, to_epoch_us(now), agent),
    )
    return seq
