"""Witnessing: the desk's side of its witness. What was cosigned, and does it still stand?

A desk that was put back to an older copy of its own files cannot know it from these files. So the
witness's answer decides, not the table: until the witness has cosigned for this very process, its
cosignature counts as never given (`NEVER_S`), and what it once refuses stays refused, across
restarts, until it cosigns again.
"""

import secrets
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NoReturn, Protocol

from neural_trader_governance.audit import log, merkle
from neural_trader_governance.audit.cosignatures import WitnessKey
from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.audit.submissions import Submission
from neural_trader_governance.errors import IntegrityError, NetworkError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.notes import Note, parse_note
from neural_trader_governance.terms.clocks import to_epoch_us

if TYPE_CHECKING:  # the store prepares our table, and so imports us
    from neural_trader_governance.audit.witness import Answer
    from neural_trader_governance.store import Store

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
_ROUNDS_MAX = 6
_COSIGNATURES_KEPT = 1000
_RUNS_KEPT = 100


class WitnessPort(Protocol):
    """The way to a witness: HTTP, or its own folder."""

    def add_checkpoint(self, body: bytes) -> "Answer":
        """Sends one request.

        Raises:
            NetworkError: the witness could not be reached.
        """
        ...


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


@dataclass(frozen=True, slots=True)
class Cosigned:
    """One round with the witness: the size that it vouches for, since when, and its line."""

    size: int
    time_s: int
    line: str


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
        (_id(pinned.key),),
    ).fetchone()
    asked = connection.execute("SELECT 1 FROM audit_witness_runs WHERE run = ?", (run or RUN,)).fetchone()
    if newest is None:
        return WitnessStanding(True, pinned.consistent, NEVER_S, False, None)
    confirmed = asked is not None
    age_s = max(0, to_epoch_us(now) // 1_000_000 - int(newest[1])) if confirmed else NEVER_S
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
        (_id(key),),
    ).fetchone()
    return None if row is None else f"{row[0]}{row[1]}"


def cosign(
    store: "Store", witness: WitnessPort, *, caller: Caller, now: datetime, run: str | None = None
) -> Cosigned:
    """Takes the log's newest checkpoint to the witness and keeps what it answers.

    Args:
        store: The log.
        witness: The way to the pinned witness.
        caller: On whose behalf a refusal is recorded.
        now: The machine's time.
        run: The process that asks.

    Raises:
        IntegrityError: `witness_refused`, and from now on the standing says so: the log is smaller
            than, or not a continuation of, what the witness cosigned before.
        NetworkError: the witness was not reached, does not know this log or its key, or answered
            what proves nothing; nothing changed.
        RiskError: no witness is pinned.
    """
    old: int | None = None
    for _ in range(_ROUNDS_MAX):
        key, size, note, submission = _submission(store, old)
        answer = witness.add_checkpoint(submission.encode())
        if answer.status == 200:
            return _keep(store, key, size, note, answer.body, now=now, run=run or RUN)
        if answer.status == 409:
            old = _conflicting(answer)
            # Whatever was ever sent had been committed: a fresh look is as large, or history is gone.
            if old > _size(store):
                distrust(store, caller, f"the witness cosigned {old} entries, this log has {_size(store)}")
        elif answer.status == 422:
            known = "what it cosigned before" if submission.old == 0 else f"the {submission.old} it cosigned"
            distrust(store, caller, f"the witness found that these {size} entries do not continue {known}")
        else:
            raise NetworkError(
                "not_witnessed",
                f"the witness answered {answer.status}: {answer.body.strip()[:200]}",
                "let its operator run `neural-trader witness trust` with this log's verifier key",
            )
    raise NetworkError("not_witnessed", "the witness moved on in every round", "try again")


def _submission(store: "Store", old: int | None) -> tuple[WitnessKey, int, str, Submission]:
    with store.read() as connection:
        pinned = read_pin(connection)
        found = log.read_checkpoint(connection)
        if pinned is None or found is None:
            raise RiskError("no_witness", "no witness is pinned", "run `neural-trader witness pin FILE`")
        size, note = found
        if old is None or old > size:
            row = connection.execute(
                "SELECT max(size) FROM audit_cosignatures WHERE witness = ? AND size <= ?",
                (_id(pinned.key), size),
            ).fetchone()
            old = int(row[0] or 0)
        proof = merkle.consistency_proof(log.node_reader(connection), old, size) if old else []
    return pinned.key, size, note, Submission(old, tuple(proof), note)


def _keep(
    store: "Store", key: WitnessKey, size: int, note: str, lines: str, *, now: datetime, run: str
) -> Cosigned:
    try:
        cosigned = parse_note(note + lines)
        witnessed_s = key.verify(cosigned)
    except IntegrityError as error:
        raise NetworkError(
            "not_witnessed", f"the witness's answer proves nothing: {error.what}", "check its key and address"
        ) from error
    # A cosignature from the future would stay fresh too long; an old one, played again, stays old.
    time_s = min(witnessed_s, to_epoch_us(now) // 1_000_000)
    line = _own_line(cosigned, key)
    with store.unit() as unit:
        connection = unit.connection
        connection.execute(
            "INSERT INTO audit_cosignatures (size, witness, time_s, line) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (size, witness) DO UPDATE SET time_s = excluded.time_s, line = excluded.line"
            " WHERE excluded.time_s > time_s",
            (size, _id(key), time_s, line),
        )
        connection.execute(
            "INSERT INTO audit_witness_runs (run, time_s) VALUES (?, ?)"
            " ON CONFLICT (run) DO UPDATE SET time_s = excluded.time_s",
            (run, time_s),
        )
        connection.execute(
            "UPDATE audit_witness SET consistent = 1, detail = '' WHERE vkey = ? AND consistent = 0",
            (key.vkey,),
        )
        _prune(connection)
    return Cosigned(size, time_s, line)


def distrust(store: "Store", caller: Caller, detail: str) -> NoReturn:
    """Makes a refusal durable, logs it once, and raises it.

    Raises:
        IntegrityError: always.
    """
    with store.unit() as unit:
        pinned = read_pin(unit.connection)
        if pinned is not None and pinned.consistent:
            payload = {"vkey": pinned.key.vkey, "detail": detail}
            person = Caller(principal=caller.principal, agent="")
            unit.append(AuditEntry.by(person, EntryType.WITNESS_REFUSE, payload=payload))
            unit.connection.execute("UPDATE audit_witness SET consistent = 0, detail = ?", (detail,))
    raise IntegrityError(
        "witness_refused",
        f"the audit log is not the one that its witness knows: {detail}",
        "stop trading, keep all files, and restore the newest copy of desk.db",
    )


def _conflicting(answer: "Answer") -> int:
    text = answer.body.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise NetworkError(
            "not_witnessed", "the witness answered 409 without a size", "check the witness's address"
        )
    return int(text)


def _size(store: "Store") -> int:
    with store.read() as connection:
        found = log.read_checkpoint(connection)
    return 0 if found is None else found[0]


def _own_line(note: Note, key: WitnessKey) -> str:
    found = [s for s in note.signatures if s.name == key.name and s.key_id == key.key_id]
    return max(found, key=lambda signature: signature.signature[:8]).line()


def _prune(connection: sqlite3.Connection) -> None:
    connection.execute(
        "DELETE FROM audit_cosignatures WHERE size < (SELECT min(size) FROM"
        " (SELECT size FROM audit_cosignatures ORDER BY size DESC LIMIT ?))",
        (_COSIGNATURES_KEPT,),
    )
    connection.execute(
        "DELETE FROM audit_witness_runs WHERE run NOT IN (SELECT run FROM audit_witness_runs"
        " ORDER BY time_s DESC, rowid DESC LIMIT ?)",
        (_RUNS_KEPT,),
    )


def _id(key: WitnessKey) -> str:
    return f"{key.name}+{key.key_id.hex()}"


def _require_person(caller: Caller, what: str) -> None:
    if not caller.is_person:
        raise RiskError(
            "person_required",
            f"the agent {caller.agent} asked to {what}, which only a person may do",
            "let a person run `neural-trader witness`",
        )
