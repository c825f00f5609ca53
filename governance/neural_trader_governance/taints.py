"""Taints: which agent has read text from outside, durably, until a person clears it.

The mark belongs to the (principal, agent) and not to a session: an agent that starts again has not
forgotten what it copied into its plans. Only a digest is kept, because the text itself would be
read again by whoever searches the log.
"""

import hashlib
import sqlite3
from dataclasses import dataclass
from typing import Protocol

from pydantic import JsonValue

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.redaction import redact
from neural_trader_governance.untrusted.detectors import Finding
from neural_trader_governance.untrusted.readings import Source

SCHEMA = """
CREATE TABLE IF NOT EXISTS taints (
  principal TEXT NOT NULL, agent TEXT NOT NULL, digest TEXT NOT NULL, source TEXT NOT NULL,
  tool TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (principal, agent, digest)) STRICT;
"""
_NOTE_MAX = 200
_REASON_MAX = 500


class TaintUnit(Protocol):
    """What a taint needs of the store's unit: its connection and its log."""

    connection: sqlite3.Connection

    def append(self, entry: AuditEntry) -> int:
        """Appends an audit entry and returns its seq."""
        ...


@dataclass(frozen=True, slots=True)
class Taint:
    """One text that an agent was shown, by its digest, and the entry that says so."""

    principal: str
    agent: str
    source: str
    tool: str
    digest: str
    seq: int


def mark(
    unit: TaintUnit, *, caller: Caller, source: Source, text: str, tool: str, finding: Finding | None = None
) -> int | None:
    """Marks the caller as having read a text, and logs it; the same text twice is one mark.

    Args:
        unit: The transaction; the text may be shown only after its commit.
        caller: Who is shown the text. A person is not marked.
        source: Who wrote it.
        text: The text; only its digest and length are kept.
        tool: Which tool shows it.
        finding: What a detector thought of it; advice for the person who will clear it.

    Returns:
        The seq of the `taint.mark` entry, or None where nothing new was to be marked.
    """
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    key = (caller.principal, caller.agent, digest)
    known = unit.connection.execute(
        "SELECT 1 FROM taints WHERE principal = ? AND agent = ? AND digest = ?", key
    ).fetchone()
    if caller.is_person or known is not None:
        return None
    payload: dict[str, JsonValue] = {
        "source": source.value,
        "tool": tool,
        "digest": digest,
        "characters": len(text),
    }
    if finding is not None:
        payload["finding"] = finding.summary()
    seq = unit.append(AuditEntry.by(caller, EntryType.TAINT_MARK, payload=payload))
    unit.connection.execute(
        "INSERT INTO taints (principal, agent, digest, source, tool, seq) VALUES (?, ?, ?, ?, ?, ?)",
        (*key, source.value, tool, seq),
    )
    return seq


def clear(unit: TaintUnit, *, person: Caller, principal: str, agent: str, reason: str) -> int:
    """Clears an agent, by a person's word, and logs it; returns how many texts were on it.

    Raises:
        RiskError: `person_required` when an agent asks, `not_tainted` where there is nothing to clear.
        InputError: the reason is empty or longer than 500 characters.
    """
    if not person.is_person:
        raise RiskError(
            "person_required",
            f"the agent {person.agent} asked to clear a taint, which only a person may do",
            f"let a person run `neural-trader taint clear --agent {agent} --reason …`",
        )
    reason = redact(reason.strip())
    if not 0 < len(reason) <= _REASON_MAX:
        raise InputError(
            "invalid_reason", f"the reason has {len(reason)} characters", f"give 1 to {_REASON_MAX}"
        )
    standing_marks = read(unit.connection, principal=principal, agent=agent)
    if not standing_marks:
        raise RiskError(
            "not_tainted",
            f"the agent {agent!r:.80} of {principal!r:.80} is not tainted",
            "see `neural-trader taint list`",
        )
    payload: dict[str, JsonValue] = {
        "subject_principal": principal,
        "subject_agent": agent,
        "reason": reason,
        "texts": len(standing_marks),
        "up_to_seq": standing_marks[-1].seq,
    }
    unit.append(AuditEntry.by(person, EntryType.TAINT_CLEAR, payload=payload))
    unit.connection.execute("DELETE FROM taints WHERE principal = ? AND agent = ?", (principal, agent))
    return len(standing_marks)


def standing(connection: sqlite3.Connection, *, principal: str, agent: str) -> str:
    """Returns where the text came from that the agent has read, such as `sandbox via strategy_check`.

    Returns:
        At most 200 characters; empty where the agent is not tainted.
    """
    rows = connection.execute(
        "SELECT source, tool FROM taints WHERE principal = ? AND agent = ?"
        " GROUP BY source, tool ORDER BY min(seq)",
        (principal, agent),
    ).fetchall()
    note = ", ".join(f"{source} via {tool}" for source, tool in rows)
    return note if len(note) <= _NOTE_MAX else f"{note[: _NOTE_MAX - 1]}…"


def read(
    connection: sqlite3.Connection, *, principal: str | None = None, agent: str | None = None
) -> list[Taint]:
    """Returns the marks that stand, oldest first; of one principal or agent where they are given."""
    rows = connection.execute(
        "SELECT principal, agent, source, tool, digest, seq FROM taints"
        " WHERE (?1 IS NULL OR principal = ?1) AND (?2 IS NULL OR agent = ?2) ORDER BY seq",
        (principal, agent),
    ).fetchall()
    return [Taint(str(a), str(b), str(c), str(d), str(e), int(seq)) for a, b, c, d, e, seq in rows]
