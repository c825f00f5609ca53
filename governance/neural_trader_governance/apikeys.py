"""API keys: how an agent on the network proves on whose behalf it calls.

    ntk_1f2e3d4c5b6a_…43 characters…      key id, then 256 random bits in base64url

The desk keeps the token's SHA-256 in a grant that the issuer signed, and shows the token once. A row
counts only if its signature verifies; a revocation counts from the table and from the log.
"""

import base64
import hashlib
import hmac
import re
import secrets
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Protocol

from pydantic import Field

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.principals import NAME_PATTERN, find_enrolment
from neural_trader_governance.signing.documents import SignedDocument
from neural_trader_governance.signing.keys import SigningKey, VerifyingKey
from neural_trader_governance.terms.clocks import UtcTime
from neural_trader_governance.terms.orders import AgentId

SCHEMA = """
CREATE TABLE IF NOT EXISTS api_keys (
  key_id TEXT PRIMARY KEY, document TEXT NOT NULL, seq INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS api_key_revocations (
  key_id TEXT PRIMARY KEY, reason TEXT NOT NULL, seq INTEGER NOT NULL) STRICT;
"""
_TOKEN = re.compile(r"ntk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_REASON_MAX = 500


class KeyUnit(Protocol):
    """What the register of keys needs of the store's unit: its connection and its log."""

    connection: sqlite3.Connection

    def append(self, entry: AuditEntry) -> int:
        """Appends an audit entry and returns its seq."""
        ...


class KeyGrant(SignedDocument):
    """Whoever shows the token of this hash calls as this principal and agent, until it ends."""

    domain: ClassVar[bytes] = b"neural-trader/apikey/v1\n"
    key_id: str = Field(pattern=r"^[0-9a-f]{12}$")
    token_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    principal: str = Field(pattern=NAME_PATTERN)
    agent: AgentId
    issued: UtcTime
    expires: UtcTime


@dataclass(frozen=True, slots=True)
class KeyStanding:
    """One key as it stands now; `grant` is None where the row does not verify."""

    key_id: str
    grant: KeyGrant | None
    revoked: bool

    def is_active(self, now: datetime) -> bool:
        """Says whether it opens anything now."""
        return self.grant is not None and not self.revoked and now < self.grant.expires


def new_token() -> tuple[str, str]:
    """Returns a fresh key id and the token that begins with it."""
    key_id = secrets.token_hex(6)
    secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    return key_id, f"ntk_{key_id}_{secret}"


def issue(
    unit: KeyUnit,
    key: SigningKey,
    *,
    caller: Caller,
    principal: str,
    agent: str,
    now: datetime,
    expires: datetime,
) -> tuple[KeyGrant, str]:
    """Issues a key for an enrolled agent of an enrolled person; returns the grant and, once, the token.

    Raises:
        RiskError: `person_required`, or `not_enrolled`.
        InputError: it would end before it begins.
    """
    _require_person(caller)
    issuer = key.verifying_key
    for kind, name in (("person", principal), ("agent", agent)):
        found = find_enrolment(unit.connection, "agent" if kind == "agent" else "person", name, issuer=issuer)
        if found is None or not found.active:
            raise RiskError(
                "not_enrolled",
                f"the {kind} {name!r:.60} is not enrolled",
                f"enrol it first: neural-trader identity enroll {name} --role ROLE"
                + (" --agent" if kind == "agent" else ""),
            )
    if expires <= now:
        raise InputError("invalid_expiry", "the key would have ended already", "give a day or more")
    key_id, token = new_token()
    grant = KeyGrant(
        key_id=key_id,
        token_sha256=_digest(token),
        principal=principal,
        agent=agent,
        issued=now,
        expires=expires,
    ).signed_by(key)
    entry = AuditEntry.by(caller, EntryType.APIKEY_ISSUE, payload={"grant": grant.model_dump(mode="json")})
    seq = unit.append(entry)
    unit.connection.execute("INSERT INTO api_keys VALUES (?, ?, ?)", (key_id, grant.text(), seq))
    return grant, token


def revoke(unit: KeyUnit, key_id: str, *, caller: Caller, reason: str) -> int:
    """Ends a key for good from this commit on; it takes a person, and not the issuer's key.

    Raises:
        RiskError: `person_required`.
        InputError: `unknown_key`, or the reason is empty or longer than 500 characters.
    """
    _require_person(caller)
    if not 0 < len(reason := reason.strip()) <= _REASON_MAX:
        raise InputError(
            "invalid_reason", f"the reason has {len(reason)} characters", f"give 1 to {_REASON_MAX}"
        )
    if unit.connection.execute("SELECT 1 FROM api_keys WHERE key_id = ?", (key_id,)).fetchone() is None:
        raise InputError(
            "unknown_key",
            f"there is no key {key_id!r:.40}",
            "take an id from `neural-trader identity key list`",
        )
    payload = {"key_id": key_id, "reason": reason}
    seq = unit.append(AuditEntry.by(caller, EntryType.APIKEY_REVOKE, payload=payload))
    unit.connection.execute(
        "INSERT INTO api_key_revocations VALUES (?, ?, ?) ON CONFLICT (key_id) DO NOTHING",
        (key_id, reason, seq),
    )
    return seq


def authenticate(
    connection: sqlite3.Connection, token: str, *, issuer: VerifyingKey, now: datetime
) -> Caller | None:
    """Returns on whose behalf the bearer of this token calls; None if it opens nothing.

    The caller's enrolment is not judged here: the gate asks for it at every call.
    """
    shape = _TOKEN.fullmatch(token)
    row = None
    if shape is not None:
        query = "SELECT key_id, document FROM api_keys WHERE key_id = ?"
        row = connection.execute(query, (shape[1],)).fetchone()
    standing = None if row is None else _standing(connection, row, issuer)
    kept = "0" * 64 if standing is None or standing.grant is None else standing.grant.token_sha256
    # Compared also where there is no such key, and in constant time.
    same = hmac.compare_digest(kept, _digest(token))
    if not same or standing is None or standing.grant is None or not standing.is_active(now):
        return None
    return Caller(standing.grant.principal, standing.grant.agent)


def list_keys(connection: sqlite3.Connection, *, issuer: VerifyingKey) -> list[KeyStanding]:
    """Returns every key that was issued, oldest first."""
    rows = connection.execute("SELECT key_id, document FROM api_keys ORDER BY seq").fetchall()
    return [_standing(connection, row, issuer) for row in rows]


def was_any_issued(connection: sqlite3.Connection) -> bool:
    """Says whether this desk ever issued a key.

    From then on callers over HTTP need one: revoking the last key must not open the door.
    """
    query = "SELECT 1 FROM audit_entries WHERE type = ? LIMIT 1"
    return connection.execute(query, (EntryType.APIKEY_ISSUE,)).fetchone() is not None


def _standing(connection: sqlite3.Connection, row: tuple[str, str], issuer: VerifyingKey) -> KeyStanding:
    key_id, text = row
    grant = KeyGrant.read(text, issuer)
    if grant is not None and grant.key_id != key_id:
        grant = None
    return KeyStanding(key_id, grant, _is_revoked(connection, key_id))


def _is_revoked(connection: sqlite3.Connection, key_id: str) -> bool:
    table = connection.execute("SELECT 1 FROM api_key_revocations WHERE key_id = ?", (key_id,))
    if table.fetchone() is not None:
        return True
    logged = connection.execute(
        "SELECT 1 FROM audit_entries WHERE type = ? AND instr(CAST(entry AS TEXT), ?)",
        (EntryType.APIKEY_REVOKE, f'"key_id":"{key_id}"'),
    )
    return logged.fetchone() is not None


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _require_person(caller: Caller) -> None:
    if not caller.is_person:
        raise RiskError(
            "person_required",
            f"the agent {caller.agent} asked for what only a person may do with keys",
            "let a person run `neural-trader identity key`",
        )
