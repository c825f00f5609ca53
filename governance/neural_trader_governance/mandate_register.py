"""The register of mandates: the signed documents, and how they come into force and end.

A mandate is never changed: it is issued once, and revoked or left to expire. An agent that ever
had one is bound for ever, unless the issuer signs a release that names each of them.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Literal, Protocol, Self

from pydantic import Field, model_validator

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.policy.contexts import CENTS_MAX
from neural_trader_governance.signing.documents import SignedDocument
from neural_trader_governance.signing.keys import VerifyingKey
from neural_trader_governance.terms.clocks import UtcTime, format_time
from neural_trader_governance.terms.instruments import Symbol
from neural_trader_governance.terms.orders import AccountId, AgentId, Side

SCHEMA = """
CREATE TABLE IF NOT EXISTS mandates (
  mandate_id TEXT PRIMARY KEY, agent TEXT NOT NULL, nonce TEXT NOT NULL UNIQUE, document TEXT NOT NULL,
  seq INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS mandate_revocations (
  mandate_id TEXT PRIMARY KEY, reason TEXT NOT NULL, seq INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS mandate_releases (
  document TEXT PRIMARY KEY, agent TEXT NOT NULL, seq INTEGER NOT NULL) STRICT;
"""
EVERY_SYMBOL: Literal["*"] = "*"
Period = Literal["day", "week", "month", "total"]
_SYMBOLS_MAX = 200
_REASON_MAX = 500

MandateId = str


class MandateUnit(Protocol):
    """What the register needs of the store's unit: its connection and its log."""

    connection: sqlite3.Connection

    def append(self, entry: AuditEntry) -> int:
        """Appends an audit entry and returns its seq."""
        ...


class Mandate(SignedDocument):
    """What one agent may do with one account, until when and for how much."""

    domain: ClassVar[bytes] = b"neural-trader/mandate/v1\n"
    mandate_id: str = Field(pattern=r"^mn_[0-9a-f]{12}$")
    agent: AgentId
    account: AccountId
    symbols: tuple[Symbol, ...] | Literal["*"] = Field(description="Exact symbols, or * for every one")
    sides: tuple[Side, ...]
    per_order_cap_cents: int = Field(gt=0, le=CENTS_MAX, strict=True)
    cumulative_cap_cents: int = Field(gt=0, le=CENTS_MAX, strict=True, description="In each period")
    period: Period = Field(description="Calendar periods in UTC; total: from first to last")
    not_before: UtcTime
    expires: UtcTime

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.expires <= self.not_before:
            raise ValueError("expires must lie after not_before")
        if self.per_order_cap_cents > self.cumulative_cap_cents:
            raise ValueError("the cap of one order exceeds the cumulative cap")
        if len(self.symbols) > _SYMBOLS_MAX:
            raise ValueError(f"at most {_SYMBOLS_MAX} symbols; use * for every one")
        for name, values in (("symbols", self.symbols), ("sides", self.sides)):
            if values != EVERY_SYMBOL and (not values or list(values) != sorted(set(values))):
                raise ValueError(f"{name} must be given, sorted and each once")
        return self


class MandateRelease(SignedDocument):
    """Sets an agent free of the mandates that it names, and of no later one."""

    domain: ClassVar[bytes] = b"neural-trader/mandate-release/v1\n"
    agent: AgentId
    mandate_ids: tuple[str, ...] = Field(min_length=1, max_length=500)


@dataclass(frozen=True, slots=True)
class Registered:
    """One row of the register, as it verifies now.

    Attributes:
        mandate_id: Under which it was issued.
        mandate: The document; None if the pinned issuer did not sign exactly this row.
        revoked: A revocation stands in the table or in the log.
        seq: Of its `mandate.issue` entry.
    """

    mandate_id: str
    mandate: Mandate | None
    revoked: bool
    seq: int


def issue(unit: MandateUnit, mandate: Mandate, *, issuer: VerifyingKey, caller: Caller, now: datetime) -> int:
    """Puts a signed mandate in force and on the record; returns the entry's seq.

    Raises:
        RiskError: `person_required`, `signature_invalid`, `mandate_expired`, or `mandate_replayed`
            where its id or nonce was used before, revoked or not.
    """
    _require_person(caller, "issue a mandate")
    mandate.require_signature(issuer)
    if now >= mandate.expires:
        raise RiskError(
            "mandate_expired",
            f"{mandate.mandate_id} ended at {format_time(mandate.expires)}",
            "issue one that lasts longer",
        )
    if _was_issued(unit.connection, mandate):
        raise RiskError(
            "mandate_replayed",
            f"{mandate.mandate_id} or its nonce was issued before",
            "issue a new one with `neural-trader mandates issue`",
        )
    entry = AuditEntry.by(
        caller,
        EntryType.MANDATE_ISSUE,
        account=mandate.account,
        mandate_id=mandate.mandate_id,
        payload={"mandate": mandate.model_dump(mode="json")},
    )
    seq = unit.append(entry)
    unit.connection.execute(
        "INSERT INTO mandates VALUES (?, ?, ?, ?, ?)",
        (mandate.mandate_id, mandate.agent, mandate.nonce, mandate.text(), seq),
    )
    return seq


def revoke(unit: MandateUnit, mandate_id: str, *, caller: Caller, reason: str) -> int:
    """Ends a mandate for good from this commit on, also for orders that were previewed before.

    It takes a person and not the issuer's key: what only takes away must not wait for a passphrase.
    Revoking twice is logged twice and changes nothing.

    Raises:
        RiskError: `person_required`.
        InputError: `unknown_mandate`, or the reason is empty or longer than 500 characters.
    """
    _require_person(caller, "revoke a mandate")
    if not 0 < len(reason := reason.strip()) <= _REASON_MAX:
        raise InputError(
            "invalid_reason", f"the reason has {len(reason)} characters", f"give 1 to {_REASON_MAX}"
        )
    found = unit.connection.execute("SELECT 1 FROM mandates WHERE mandate_id = ?", (mandate_id,)).fetchone()
    if found is None:
        raise InputError(
            "unknown_mandate",
            f"there is no mandate {mandate_id!r:.40}",
            "take an id from `neural-trader mandates list`",
        )
    seq = unit.append(
        AuditEntry.by(caller, EntryType.MANDATE_REVOKE, mandate_id=mandate_id, payload={"reason": reason})
    )
    unit.connection.execute(
        "INSERT INTO mandate_revocations VALUES (?, ?, ?) ON CONFLICT (mandate_id) DO NOTHING",
        (mandate_id, reason, seq),
    )
    return seq


def release_agent(
    unit: MandateUnit, document: MandateRelease, *, issuer: VerifyingKey, caller: Caller
) -> int:
    """Ends the named mandates and the agent's being bound by them.

    Permissions and policy alone govern it then, until it is given another mandate.

    Raises:
        RiskError: `person_required`, or `signature_invalid`.
    """
    _require_person(caller, "release an agent from its mandates")
    document.require_signature(issuer)
    payload = {"release": document.model_dump(mode="json")}
    seq = unit.append(AuditEntry.by(caller, EntryType.MANDATE_REVOKE, payload=payload))
    unit.connection.execute(
        "INSERT INTO mandate_releases VALUES (?, ?, ?) ON CONFLICT (document) DO NOTHING",
        (document.text(), document.agent, seq),
    )
    return seq


def read_register(connection: sqlite3.Connection, *, issuer: VerifyingKey, agent: str) -> list[Registered]:
    """Returns every mandate that the agent ever had, oldest first, each verified anew.

    The table is matched by its column, by the document and by the log's own entries, so that an
    edited or deleted row still binds its agent; it only grants nothing.
    """
    needle = f'"agent":"{agent}"'
    rows = connection.execute(
        "SELECT mandate_id, document, seq FROM mandates WHERE agent = ? OR instr(document, ?)"
        " UNION ALL SELECT '', CAST(entry AS TEXT), seq FROM audit_entries AS e WHERE type = ?"
        " AND instr(CAST(entry AS TEXT), ?) AND NOT EXISTS (SELECT 1 FROM mandates AS m WHERE m.seq = e.seq)"
        " ORDER BY seq",
        (agent, needle, EntryType.MANDATE_ISSUE, needle),
    ).fetchall()
    found: list[Registered] = []
    for mandate_id, text, seq in rows:
        document = Mandate.read(text, issuer) if mandate_id else None
        if document is not None and (document.mandate_id, document.agent) != (mandate_id, agent):
            document = None
        found.append(
            Registered(mandate_id or f"entry {seq}", document, _is_revoked(connection, mandate_id), int(seq))
        )
    return found


def released_ids(connection: sqlite3.Connection, *, issuer: VerifyingKey, agent: str) -> frozenset[str]:
    """Returns the mandates that signed releases set the agent free of."""
    rows = connection.execute("SELECT document FROM mandate_releases WHERE agent = ?", (agent,)).fetchall()
    documents = (MandateRelease.read(row[0], issuer) for row in rows)
    return frozenset(
        mandate_id
        for document in documents
        if document is not None and document.agent == agent
        for mandate_id in document.mandate_ids
    )


def mandated_agents(connection: sqlite3.Connection) -> list[str]:
    """Returns the agents that the table names, sorted."""
    return [row[0] for row in connection.execute("SELECT DISTINCT agent FROM mandates ORDER BY agent")]


def _is_revoked(connection: sqlite3.Connection, mandate_id: str) -> bool:
    table = connection.execute("SELECT 1 FROM mandate_revocations WHERE mandate_id = ?", (mandate_id,))
    if table.fetchone() is not None:
        return True
    logged = connection.execute(
        "SELECT 1 FROM audit_entries WHERE type = ? AND instr(CAST(entry AS TEXT), ?)",
        (EntryType.MANDATE_REVOKE, f'"mandate_id":"{mandate_id}"'),
    )
    return logged.fetchone() is not None


def _was_issued(connection: sqlite3.Connection, mandate: Mandate) -> bool:
    table = connection.execute(
        "SELECT 1 FROM mandates WHERE mandate_id = ? OR nonce = ?", (mandate.mandate_id, mandate.nonce)
    )
    if table.fetchone() is not None:
        return True
    logged = connection.execute(
        "SELECT 1 FROM audit_entries WHERE type = ? AND (instr(CAST(entry AS TEXT), ?)"
        " OR instr(CAST(entry AS TEXT), ?))",
        (EntryType.MANDATE_ISSUE, f'"mandate_id":"{mandate.mandate_id}"', f'"nonce":"{mandate.nonce}"'),
    )
    return logged.fetchone() is not None


def _require_person(caller: Caller, what: str) -> None:
    if not caller.is_person:
        raise RiskError(
            "person_required",
            f"the agent {caller.agent} asked to {what}, which only a person may do",
            "let a person run `neural-trader mandates`",
        )
