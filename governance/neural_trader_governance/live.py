"""Live trading: the second switch, a document that the issuer signed for one policy and a while.

The first switch is a setting of the machine (`live_trading`). This one says that a person has read the policy
in force and lets it govern real money: a permit names that policy's digest, so that whoever activates another
policy has switched live trading off, and it ends by itself after a month at most. It is verified against the
pinned key on every use: a row edited, forged or put back by hand permits nothing.
"""

import secrets
import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Protocol, Self

from pydantic import Field, model_validator

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.documents import SignedDocument
from neural_trader_governance.signing.keys import VerifyingKey
from neural_trader_governance.terms.clocks import UtcTime, format_time

SCHEMA = """
CREATE TABLE IF NOT EXISTS live_permits (
  permit_id TEXT PRIMARY KEY, nonce TEXT NOT NULL UNIQUE, document TEXT NOT NULL,
  seq INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS live_ends (
  permit_id TEXT PRIMARY KEY, reason TEXT NOT NULL, seq INTEGER NOT NULL) STRICT;
"""
LIFETIME_MAX = timedelta(days=31)
_REASON_MAX = 500


class LiveUnit(Protocol):
    """What a permit needs of the store's unit: its connection and its log."""

    connection: sqlite3.Connection

    def append(self, entry: AuditEntry) -> int:
        """Appends an audit entry and returns its seq."""
        ...


class LivePermit(SignedDocument):
    """Under which policy real money may be traded, at which address, why, and for how long."""

    domain: ClassVar[bytes] = b"neural-trader/live-permit/v1\n"
    permit_id: str = Field(default_factory=lambda: f"lp_{secrets.token_hex(6)}", pattern=r"^lp_[0-9a-f]{12}$")
    policy_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    not_before: UtcTime
    expires: UtcTime
    reason: str = Field(min_length=1, max_length=_REASON_MAX)

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if not timedelta(0) < self.expires - self.not_before <= LIFETIME_MAX:
            raise ValueError("expires must lie after not_before, and at most 31 days after it")
        return self


@dataclass(frozen=True, slots=True)
class Permitted:
    """One row of the table, as it verifies now: None where the pinned issuer did not sign exactly it."""

    permit_id: str
    permit: LivePermit | None
    ended: bool
    seq: int

    def holds(self, *, policy_digest: str, now: datetime) -> bool:
        """Says whether it permits live trading under this policy now."""
        permit = self.permit
        if permit is None or self.ended or permit.policy_digest != policy_digest:
            return False
        return permit.not_before <= now < permit.expires


def permit_live(
    unit: LiveUnit,
    permit: LivePermit,
    *,
    issuer: VerifyingKey,
    policy_digest: str,
    caller: Caller,
    now: datetime,
) -> int:
    """Puts a signed permit in force and on the record (which raises an alert); returns the entry's seq.

    Raises:
        RiskError: `person_required`, `signature_invalid`, `permit_expired`, `permit_of_another_policy`, or
            `permit_replayed` where its id or nonce was used before.
    """
    _require_person(caller)
    permit.require_signature(issuer)
    if now >= permit.expires or permit.not_before - now > LIFETIME_MAX:
        raise RiskError(
            "permit_expired",
            f"{permit.permit_id} is for {format_time(permit.not_before)} to {format_time(permit.expires)}",
            "sign one that begins today",
        )
    if permit.policy_digest != policy_digest:
        raise RiskError(
            "permit_of_another_policy",
            f"{permit.permit_id} is for the policy {permit.policy_digest[:12]}, not {policy_digest[:12]}",
            "read the policy in force and sign a permit for it",
        )
    if _was_permitted(unit.connection, permit):
        raise RiskError(
            "permit_replayed", f"{permit.permit_id} or its nonce was used before", "sign a new one"
        )
    payload = {"reason": permit.reason, "permit": permit.model_dump(mode="json")}
    seq = unit.append(AuditEntry.by(caller, EntryType.LIVE_PERMIT, payload=payload))
    unit.connection.execute(
        "INSERT INTO live_permits VALUES (?, ?, ?, ?)", (permit.permit_id, permit.nonce, permit.text(), seq)
    )
    return seq


def end_live(unit: LiveUnit, *, caller: Caller, reason: str) -> int:
    """Ends every permit from this commit on; it takes a person, and no key. Returns the entry's seq.

    Raises:
        RiskError: `person_required`.
        InputError: the reason is empty or longer than 500 characters.
    """
    _require_person(caller)
    if not 0 < len(reason := reason.strip()) <= _REASON_MAX:
        raise InputError(
            "invalid_reason", f"the reason has {len(reason)} characters", f"give 1 to {_REASON_MAX}"
        )
    rows = unit.connection.execute("SELECT permit_id FROM live_permits ORDER BY seq").fetchall()
    payload = {"reason": reason, "permits": [str(row[0]) for row in rows][-100:]}
    seq = unit.append(AuditEntry.by(caller, EntryType.LIVE_END, payload=payload))
    unit.connection.executemany(
        "INSERT INTO live_ends VALUES (?, ?, ?) ON CONFLICT (permit_id) DO NOTHING",
        [(row[0], reason, seq) for row in rows],
    )
    return seq


def is_permitted(
    connection: sqlite3.Connection, *, issuer: VerifyingKey, policy_digest: str, now: datetime
) -> bool:
    """Says whether a permit of the pinned issuer lets this policy govern real money now."""
    return any(
        each.holds(policy_digest=policy_digest, now=now) for each in read_permits(connection, issuer=issuer)
    )


def read_permits(connection: sqlite3.Connection, *, issuer: VerifyingKey) -> list[Permitted]:
    """Returns the newest permits, as they verify now, newest first."""
    rows = connection.execute(
        "SELECT permit_id, document, seq FROM live_permits ORDER BY seq DESC LIMIT 100"
    ).fetchall()
    if not rows:
        return []
    # The log is asked, too: a deleted row of `live_ends` revives nothing.
    last_end = connection.execute(
        "SELECT COALESCE(MAX(seq), -1) FROM audit_entries WHERE type = ?", (EntryType.LIVE_END,)
    ).fetchone()[0]
    found: list[Permitted] = []
    for permit_id, text, seq in rows:
        permit = LivePermit.read(text, issuer)
        if permit is not None and (permit.permit_id != permit_id or not _is_logged(connection, seq, permit)):
            permit = None
        ended = connection.execute("SELECT 1 FROM live_ends WHERE permit_id = ?", (permit_id,)).fetchone()
        found.append(Permitted(permit_id, permit, ended is not None or seq < last_end, int(seq)))
    return found


def _is_logged(connection: sqlite3.Connection, seq: int, permit: LivePermit) -> bool:
    """Tells whether the row's entry is the permit's: one that was put back with a newer seq is not."""
    row = connection.execute(
        "SELECT 1 FROM audit_entries WHERE seq = ? AND type = ? AND instr(CAST(entry AS TEXT), ?)",
        (seq, EntryType.LIVE_PERMIT, f'"nonce":"{permit.nonce}"'),
    ).fetchone()
    return row is not None


def _was_permitted(connection: sqlite3.Connection, permit: LivePermit) -> bool:
    found = connection.execute(
        "SELECT 1 FROM live_permits WHERE permit_id = ? OR nonce = ? UNION ALL"
        " SELECT 1 FROM audit_entries WHERE type = ? AND (instr(CAST(entry AS TEXT), ?)"
        " OR instr(CAST(entry AS TEXT), ?)) LIMIT 1",
        (
            permit.permit_id,
            permit.nonce,
            EntryType.LIVE_PERMIT,
            f'"permit_id":"{permit.permit_id}"',
            f'"nonce":"{permit.nonce}"',
        ),
    ).fetchone()
    return found is not None


def _require_person(caller: Caller) -> None:
    if not caller.is_person:
        raise RiskError(
            "person_required",
            f"the agent {caller.agent} asked to switch live trading, which only a person may do",
            "let a person run `neural-trader live`",
        )
