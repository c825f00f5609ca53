"""Witnessing: the desk's side of its witness. What was cosigned, and does it still stand?

A desk that was put back to an older copy of its own files cannot know it from these files. So the
witness's answer decides, not the table: until the witness has cosigned for this very process, its
cosignature counts as never given (`NEVER_S`), and what it once refuses stays refused, across
restarts, until it cosigns again. `rounds` asks it.
"""

import secrets
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from neural_trader_governance.audit.cosignatures import WitnessKey
from neural_trader_governance.audit.entries import AuditEntry, EntryType, LoggedEntry
from neural_trader_governance.errors import RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.terms.clocks import to_epoch_us

_CLOCK_SLACK_S = 60
NEVER_S = 10**10
"""The age of a cosignature that this process never got; beyond any bound, within policy's range."""

RUN = secrets.token_hex(8)
"""This process: a cosignature that an earlier one got says nothing about the files as they are now."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS audit_witness (
  id INTEGER PRIMARY KEY CHECK (id = 1), vkey TEXT NOT NULL, consistent INTEGER NOT NULL,
  detail TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS audit_cosignatures (
  size INTEGER NOT NULL, witness TEXT NOT NULL, time_s INTEGER NOT NULL, line TEXT NOT NULL,
  PRIMARY KEY (size, witness)) STRICT;
CREATE TABLE IF NOT EXISTS audit_witness_runs (run TEXT PRIMARY KEY, time_s INTEGER NOT NULL) STRICT;
"""


class WitnessUnit(Protocol):
    """What a pin needs of the store's unit: its connection and its log."""

    connection: sqlite3.Connection

    def append(self, entry: AuditEntry) -> int:
        """Appends an audit entry and returns its seq."""
        ...


@dataclass(frozen=True, slots=True)
class Pin:
    """The witness that this desk answers to, and whether it agreed when it was asked last."""

    key: WitnessKey
    consistent: bool
    detail: str


@dataclass(frozen=True, slots=True)
class WitnessStanding:
    """What policy looks at.

    Attributes:
        required: A witness is pinned.
        consistent: It has not refused this log.
        age_s: Seconds since it cosigned; `NEVER_S` until it has done so for this process.
        confirmed: It has cosigned for this process.
        size: The newest size that the desk knows to be cosigned.
    """

    required: bool
    consistent: bool
    age_s: int
    confirmed: bool
    size: int | None


def pin(unit: WitnessUnit, *, caller: Caller, key: WitnessKey) -> bool:
    """Makes this the desk's witness, on the record; False if it was that already.

    Raises:
        RiskError: an agent asks.
    """
    _require_person(caller, "pin a witness")
    standing_pin = read_pin(unit.connection)
    if standing_pin is not None and standing_pin.key == key:
        return False
    before = None if standing_pin is None else standing_pin.key.vkey
    payload = {"vkey": key.vkey, "replaces": before}
    unit.append(AuditEntry.by(caller, EntryType.WITNESS_PIN, payload=payload))
    unit.connection.execute(
        "INSERT INTO audit_witness (id, vkey, consistent, detail) VALUES (1, ?, 1, '')"
        " ON CONFLICT (id) DO UPDATE SET vkey = excluded.vkey, consistent = 1, detail = ''",
        (key.vkey,),
    )
    # What another witness confirmed is no confirmation by this one.
    unit.connection.execute("DELETE FROM audit_witness_runs")
    return True


def unpin(unit: WitnessUnit, *, caller: Caller, reason: str) -> None:
    """Ends the duty to be witnessed, on the record.

    Raises:
        RiskError: an agent asks, or no witness is pinned.
    """
    _require_person(caller, "give up the witness")
    standing_pin = read_pin(unit.connection)
    if standing_pin is None:
        raise RiskError("no_witness", "no witness is pinned", "carry on")
    payload = {"vkey": None, "replaces": standing_pin.key.vkey, "reason": reason[:500]}
    unit.append(AuditEntry.by(caller, EntryType.WITNESS_PIN, payload=payload))
    unit.connection.execute("DELETE FROM audit_witness")


def read_pin(connection: sqlite3.Connection) -> Pin | None:
    """Returns the pinned witness, or None."""
    row = connection.execute("SELECT vkey, consistent, detail FROM audit_witness").fetchone()
    return None if row is None else Pin(WitnessKey.parse(row[0]), bool(row[1]), str(row[2]))


def read_recorded_key(connection: sqlite3.Connection) -> WitnessKey | None:
    """Returns the witness that the log's own entries pin: the table is only a copy, and nobody signed it.

    Raises:
        IntegrityError: the entry is damaged.
    """
    row = connection.execute(
        "SELECT entry FROM audit_entries WHERE type = ? ORDER BY seq DESC LIMIT 1",
        (EntryType.WITNESS_PIN.value,),
    ).fetchone()
    vkey = None if row is None else LoggedEntry.decode(bytes(row[0])).payload.get("vkey")
    return WitnessKey.parse(vkey) if isinstance(vkey, str) else None


def reinstate(connection: sqlite3.Connection, key: WitnessKey) -> None:
    """Puts the witness of the record back into the table that somebody changed behind the log's back."""
    connection.execute(
        "INSERT INTO audit_witness (id, vkey, consistent, detail) VALUES (1, ?, 1, '')"
        " ON CONFLICT (id) DO UPDATE SET vkey = excluded.vkey",
        (key.vkey,),
    )


def standing(connection: sqlite3.Connection, *, now: datetime, run: str | None = None) -> WitnessStanding:
    """Says how this log stands with its witness; ask inside the transaction that acts on it.

    Args:
        connection: Of the store, in a transaction.
        now: The machine's time, not the replay clock's.
        run: The process that asks; by default this one.
    """
    pinned = read_pin(connection)
    if pinned is None:
        return WitnessStanding(False, True, 0, False, None)
    newest = connection.execute(
        "SELECT size, time_s FROM audit_cosignatures WHERE witness = ? ORDER BY size DESC LIMIT 1",
        (pinned.key.label,),
    ).fetchone()
    asked = connection.execute("SELECT 1 FROM audit_witness_runs WHERE run = ?", (run or RUN,)).fetchone()
    if newest is None:
        return WitnessStanding(True, pinned.consistent, NEVER_S, False, None)
    confirmed = asked is not None
    age_s = to_epoch_us(now) // 1_000_000 - int(newest[1])
    # A clock that was put back must not make an old cosignature fresh for as long as it takes to catch up.
    age_s = max(0, age_s) if confirmed and age_s >= -_CLOCK_SLACK_S else NEVER_S
    return WitnessStanding(True, pinned.consistent, min(NEVER_S, age_s), confirmed, int(newest[0]))


def cosigned_lines(connection: sqlite3.Connection, size: int) -> str:
    """Returns the cosignature lines of the checkpoint of this size, to be put behind its own; or ''."""
    rows = connection.execute(
        "SELECT line FROM audit_cosignatures WHERE size = ? ORDER BY witness", (size,)
    ).fetchall()
    return "".join(str(row[0]) for row in rows)


def newest_cosigned(connection: sqlite3.Connection, key: WitnessKey) -> str | None:
    """Returns the newest checkpoint that this witness cosigned, with its line, as the desk knows it."""
    row = connection.execute(
        "SELECT note, line FROM audit_cosignatures JOIN audit_checkpoints USING (size)"
        " WHERE witness = ? ORDER BY size DESC LIMIT 1",
        (key.label,),
    ).fetchone()
    return None if row is None else f"{row[0]}{row[1]}"


def _require_person(caller: Caller, what: str) -> None:
    if not caller.is_person:
        raise RiskError(
            "person_required",
            f"the agent {caller.agent} asked to {what}, which only a person may do",
            "let a person run `neural-trader witness`",
        )
