"""Rounds: the desk takes its newest checkpoint to its witness, and keeps what the witness answers."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn, Protocol

from neural_trader_governance.audit import log, merkle, witnessing
from neural_trader_governance.audit.cosignatures import WitnessKey
from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.audit.submissions import Submission
from neural_trader_governance.audit.witness import Answer
from neural_trader_governance.errors import IntegrityError, NetworkError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.notes import Note, parse_note
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import to_epoch_us

_ROUNDS_MAX = 6
_COSIGNATURES_KEPT = 1000
_RUNS_KEPT = 100


class WitnessPort(Protocol):
    """The way to a witness: HTTP, or its own folder."""

    def add_checkpoint(self, body: bytes) -> Answer:
        """Sends one request.

        Raises:
            NetworkError: the witness could not be reached.
        """
        ...


@dataclass(frozen=True, slots=True)
class Cosigned:
    """One round with the witness: the size that it vouches for, since when, and its line."""

    size: int
    time_s: int
    line: str


def cosign(
    store: Store, witness: WitnessPort, *, caller: Caller, now: datetime, run: str | None = None
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
            return _keep(store, key, size, note, answer.body, now=now, run=run or witnessing.RUN)
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


def _submission(store: Store, old: int | None) -> tuple[WitnessKey, int, str, Submission]:
    with store.read() as connection:
        pinned = witnessing.read_pin(connection)
        found = log.read_checkpoint(connection)
        if pinned is None or found is None:
            raise RiskError("no_witness", "no witness is pinned", "run `neural-trader witness pin FILE`")
        size, note = found
        if old is None or old > size:
            row = connection.execute(
                "SELECT max(size) FROM audit_cosignatures WHERE witness = ? AND size <= ?",
                (pinned.key.label, size),
            ).fetchone()
            old = int(row[0] or 0)
        proof = merkle.consistency_proof(log.node_reader(connection), old, size) if old else []
    return pinned.key, size, note, Submission(old, tuple(proof), note)


def _keep(
    store: Store, key: WitnessKey, size: int, note: str, lines: str, *, now: datetime, run: str
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
            (size, key.label, time_s, line),
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


def distrust(store: Store, caller: Caller, detail: str) -> NoReturn:
    """Makes a refusal durable, logs it once, and raises it.

    Raises:
        IntegrityError: always.
    """
    with store.unit() as unit:
        pinned = witnessing.read_pin(unit.connection)
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


def _conflicting(answer: Answer) -> int:
    text = answer.body.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise NetworkError(
            "not_witnessed", "the witness answered 409 without a size", "check the witness's address"
        )
    return int(text)


def _size(store: Store) -> int:
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
