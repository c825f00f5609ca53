"""Overrides: a person lifts a rule for a while, by a document that the issuer signed.

An override names its rules, whom and what it is for, why, and when it ends: a day at most. It is
verified against the pinned key on every use, so that a row edited, forged or put back by hand lifts
nothing; and a rule is lifted only where the policy itself says that it may be (`Rule.overridable`).
"""

import secrets
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Literal, Protocol, Self

from pydantic import Field, model_validator

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.documents import SignedDocument
from neural_trader_governance.signing.keys import VerifyingKey
from neural_trader_governance.terms.clocks import UtcTime, format_time, to_epoch_us
from neural_trader_governance.terms.instruments import Symbol
from neural_trader_governance.terms.orders import AccountId, AgentId

SCHEMA = """
CREATE TABLE IF NOT EXISTS overrides (
  override_id TEXT PRIMARY KEY, nonce TEXT NOT NULL UNIQUE, expires_us INTEGER NOT NULL,
  document TEXT NOT NULL, seq INTEGER NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS overrides_by_expiry ON overrides (expires_us);
CREATE TABLE IF NOT EXISTS override_revocations (
  override_id TEXT PRIMARY KEY, reason TEXT NOT NULL, seq INTEGER NOT NULL) STRICT;
"""
LIFETIME_MAX = timedelta(hours=24)
ANY: Literal["*"] = "*"
_REASON_MAX = 500


class OverrideUnit(Protocol):
    """What an override needs of the store's unit: its connection and its log."""

    connection: sqlite3.Connection

    def append(self, entry: AuditEntry) -> int:
        """Appends an audit entry and returns its seq."""
        ...


class Override(SignedDocument):
    """Which rules are lifted, for whom and what, why, and for how long."""

    domain: ClassVar[bytes] = b"neural-trader/override/v1\n"
    override_id: str = Field(
        default_factory=lambda: f"ov_{secrets.token_hex(6)}", pattern=r"^ov_[0-9a-f]{12}$"
    )
    rules: tuple[str, ...] = Field(min_length=1, max_length=32)
    agent: AgentId
    account: AccountId
    symbol: Symbol | Literal["*"] = Field(description="One symbol, or * for every one")
    not_before: UtcTime
    expires: UtcTime
    reason: str = Field(min_length=1, max_length=_REASON_MAX)

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if list(self.rules) != sorted(set(self.rules)) or not all(
            0 < len(rule) <= 200 for rule in self.rules
        ):
            raise ValueError("rules must be sorted and each once")
        if not timedelta(0) < self.expires - self.not_before <= LIFETIME_MAX:
            raise ValueError("expires must lie after not_before, and at most 24 hours after it")
        return self

    def covers(self, *, agent: str, account: str, symbol: str, now: datetime) -> bool:
        """Says whether it is in force for such an order."""
        scope = (self.agent, self.account) == (agent, account) and self.symbol in {ANY, symbol}
        return scope and self.not_before <= now < self.expires


@dataclass(frozen=True, slots=True)
class Granted:
    """One row of the table, as it verifies now: None where the pinned issuer did not sign exactly it."""

    override_id: str
    override: Override | None
    revoked: bool
    seq: int


def grant(
    unit: OverrideUnit,
    override: Override,
    *,
    issuer: VerifyingKey,
    overridable: Collection[str],
    caller: Caller,
    now: datetime,
) -> int:
    """Puts a signed override in force and on the record (which raises an alert); returns the entry's seq.

    Raises:
        RiskError: `person_required`, `signature_invalid`, `override_expired`, `rule_not_overridable`,
            or `override_replayed` where its id or nonce was used before.
    """
    _require_person(caller)
    override.require_signature(issuer)
    if now >= override.expires or override.not_before - now > LIFETIME_MAX:
        raise RiskError(
            "override_expired",
            f"{override.override_id} is for {format_time(override.not_before)}"
            f" to {format_time(override.expires)}",
            "sign one that begins today",
        )
    if fixed := sorted(set(override.rules) - set(overridable)):
        raise RiskError(
            "rule_not_overridable",
            f"the policy lets nobody lift {', '.join(fixed)}",
            f"choose from: {', '.join(sorted(overridable))}",
        )
    if _was_granted(unit.connection, override):
        raise RiskError(
            "override_replayed", f"{override.override_id} or its nonce was used before", "sign a new one"
        )
    payload = {
        "reason": override.reason,
        "rule": ", ".join(override.rules),
        "override": override.model_dump(mode="json"),
    }
    entry = AuditEntry.by(caller, EntryType.OVERRIDE_GRANT, account=override.account, payload=payload)
    seq = unit.append(entry)
    unit.connection.execute(
        "INSERT INTO overrides VALUES (?, ?, ?, ?, ?)",
        (override.override_id, override.nonce, to_epoch_us(override.expires), override.text(), seq),
    )
    return seq


def revoke(unit: OverrideUnit, override_id: str, *, caller: Caller, reason: str) -> int:
    """Ends an override from this commit on; it takes a person, and no key. Twice is logged twice.

    Raises:
        RiskError: `person_required`.
        InputError: `unknown_override`, or the reason is empty or longer than 500 characters.
    """
    _require_person(caller)
    if not 0 < len(reason := reason.strip()) <= _REASON_MAX:
        raise InputError(
            "invalid_reason", f"the reason has {len(reason)} characters", f"give 1 to {_REASON_MAX}"
        )
    row = unit.connection.execute("SELECT 1 FROM overrides WHERE override_id = ?", (override_id,)).fetchone()
    if row is None:
        raise InputError(
            "unknown_override",
            f"there is no override {override_id!r:.40}",
            "take an id from `neural-trader policy overrides`",
        )
    payload = {"override_id": override_id, "reason": reason}
    seq = unit.append(AuditEntry.by(caller, EntryType.OVERRIDE_REVOKE, payload=payload))
    unit.connection.execute(
        "INSERT INTO override_revocations VALUES (?, ?, ?) ON CONFLICT (override_id) DO NOTHING",
        (override_id, reason, seq),
    )
    return seq


def lifted_rules(
    connection: sqlite3.Connection,
    *,
    issuer: VerifyingKey,
    agent: str,
    account: str,
    symbol: str,
    now: datetime,
) -> tuple[str, ...]:
    """Returns the rules that signed overrides lift for such an order, sorted; at most 32 of them."""
    rows = connection.execute(
        "SELECT override_id, document, seq FROM overrides WHERE expires_us > ? ORDER BY seq",
        (to_epoch_us(now),),
    ).fetchall()
    lifted: set[str] = set()
    for row in rows:
        found = _verified(connection, row, issuer)
        if (
            found.override is not None
            and found.override.covers(agent=agent, account=account, symbol=symbol, now=now)
            and not found.revoked
        ):
            lifted |= set(found.override.rules)
    return tuple(sorted(lifted)[:32])


def read_overrides(connection: sqlite3.Connection, *, issuer: VerifyingKey) -> list[Granted]:
    """Returns every override ever granted, newest first."""
    rows = connection.execute("SELECT override_id, document, seq FROM overrides ORDER BY seq DESC").fetchall()
    return [_verified(connection, row, issuer) for row in rows]


def _verified(connection: sqlite3.Connection, row: tuple[str, str, int], issuer: VerifyingKey) -> Granted:
    override_id, text, seq = row
    document = Override.read(text, issuer)
    if document is not None and document.override_id != override_id:
        document = None
    return Granted(override_id, document, _is_revoked(connection, override_id, document), int(seq))


def _is_revoked(connection: sqlite3.Connection, override_id: str, document: Override | None) -> bool:
    """Asks the table, and the log too: a deleted row of the table revives nothing."""
    found = connection.execute(
        "SELECT 1 FROM override_revocations WHERE override_id = ? UNION ALL"
        " SELECT 1 FROM audit_entries WHERE type = ? AND instr(CAST(entry AS TEXT), ?) LIMIT 1",
        (override_id, EntryType.OVERRIDE_REVOKE, f'"override_id":"{override_id}"'),
    ).fetchone()
    return document is not None and found is not None


def _was_granted(connection: sqlite3.Connection, override: Override) -> bool:
    found = connection.execute(
        "SELECT 1 FROM overrides WHERE override_id = ? OR nonce = ? UNION ALL"
        " SELECT 1 FROM audit_entries WHERE type = ? AND (instr(CAST(entry AS TEXT), ?)"
        " OR instr(CAST(entry AS TEXT), ?)) LIMIT 1",
        (
            override.override_id,
            override.nonce,
            EntryType.OVERRIDE_GRANT,
            f'"override_id":"{override.override_id}"',
            f'"nonce":"{override.nonce}"',
        ),
    ).fetchone()
    return found is not None


def _require_person(caller: Caller) -> None:
    if not caller.is_person:
        raise RiskError(
            "person_required",
            f"the agent {caller.agent} asked to lift a rule, which only a person may do",
            "let a person run `neural-trader policy override`",
        )
