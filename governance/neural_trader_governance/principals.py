"""Principals: people and agents, enrolled with their roles by documents that the issuer signed.

    person   may have any role; an approver's document names the key that his approvals are checked against
    agent    reader, researcher or trader: an agent can neither approve nor administer

A change of roles is a new document of the next version; no roles at all is retirement. A row counts
only if the pinned issuer signed it and the log knows no later one, so that a row edited, forged or
put back by hand grants nothing.
"""

import sqlite3
from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, Literal, Protocol, Self

from pydantic import Field, ValidationError, model_validator

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.documents import SignedDocument
from neural_trader_governance.signing.keys import SigningKey, VerifyingKey
from neural_trader_governance.terms.clocks import UtcTime

SCHEMA = """
CREATE TABLE IF NOT EXISTS principals (
  kind TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, document TEXT NOT NULL,
  seq INTEGER NOT NULL, PRIMARY KEY (kind, name)) STRICT;
"""
Kind = Literal["person", "agent"]
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_\-.@ ]{0,79}$"


class Role(StrEnum):
    """What somebody may do; each is granted by itself, none contains another."""

    READER = "reader"
    RESEARCHER = "researcher"
    TRADER = "trader"
    APPROVER = "approver"
    ADMIN = "admin"


AGENT_ROLES = frozenset({Role.READER, Role.RESEARCHER, Role.TRADER})
_KINDS: tuple[Kind, ...] = ("person", "agent")
_LOGGED = (EntryType.PRINCIPAL_ENROLL, EntryType.PRINCIPAL_RETIRE)


class EnrolmentUnit(Protocol):
    """What an enrolment needs of the store's unit: its connection and its log."""

    connection: sqlite3.Connection

    def append(self, entry: AuditEntry) -> int:
        """Appends an audit entry and returns its seq."""
        ...


class Enrolment(SignedDocument):
    """What the issuer says of one person or agent, until its next version."""

    domain: ClassVar[bytes] = b"neural-trader/enrolment/v1\n"
    kind: Kind
    name: str = Field(pattern=NAME_PATTERN)
    version: int = Field(ge=1, le=10**6, strict=True)
    roles: tuple[Role, ...] = Field(description="Sorted; empty: retired")
    vkey: str | None = Field(default=None, max_length=400, description="An approver's verifier key")
    time: UtcTime

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if list(self.roles) != sorted(set(self.roles)):
            raise ValueError("roles must be sorted and each once")
        if self.kind == "agent" and not set(self.roles) <= AGENT_ROLES:
            raise ValueError("an agent can be reader, researcher or trader, and nothing else")
        if (Role.APPROVER in self.roles) != (self.vkey is not None):
            raise ValueError("an approver, and nobody else, needs the verifier key of his approvals")
        return self

    @property
    def active(self) -> bool:
        """False once retired."""
        return bool(self.roles)

    @property
    def subject(self) -> str:
        """Whom it is about, such as `agent agent-1`; no two subjects share one."""
        return f"{self.kind} {self.name}"


def sign_enrolment(
    connection: sqlite3.Connection,
    key: SigningKey,
    *,
    kind: Kind,
    name: str,
    roles: frozenset[Role],
    time: UtcTime,
    vkey: str | None = None,
) -> Enrolment:
    """Returns the next version of somebody's enrolment, signed by the issuer.

    Args:
        connection: Tells the version that stands.
        key: The issuer's.
        kind: A person or an agent.
        name: As calls and orders name it.
        roles: From now on; none retires.
        time: Of the signature.
        vkey: An approver's verifier key.

    Raises:
        InputError: the name or the roles are not possible.
        ConfigurationError: the verifier key is malformed.
    """
    row = connection.execute(
        "SELECT version FROM principals WHERE kind = ? AND name = ?", (kind, name)
    ).fetchone()
    try:
        document = Enrolment(
            kind=kind,
            name=name,
            version=1 if row is None else int(row[0]) + 1,
            roles=tuple(sorted(roles)),
            vkey=VerifyingKey.parse(vkey).vkey if vkey else None,
            time=time,
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "string_pattern_mismatch":
            message = (
                "a name begins with a letter or digit and holds letters, digits, blanks and _-.@, 80 at most"
            )
        raise InputError(
            "invalid_enrolment",
            f"{kind} {name!r:.60}: {message}",
            "make an approver's key with `neural-trader identity keygen NAME` and give its --vkey"
            if Role.APPROVER in roles and vkey is None
            else "see `neural-trader identity enroll --help`",
        ) from None
    return document.signed_by(key)


def enroll(unit: EnrolmentUnit, document: Enrolment, *, issuer: VerifyingKey, caller: Caller) -> int:
    """Puts an enrolment in force and on the record; returns the entry's seq.

    Raises:
        RiskError: `person_required`, `signature_invalid`, `enrolment_replayed` where it is not the
            next version, or `approver_key_taken` where another person approves with the same key.
    """
    if not caller.is_person:
        raise RiskError(
            "person_required",
            f"the agent {caller.agent} asked to enrol {document.subject}, which only a person may do",
            "let a person run `neural-trader identity`",
        )
    document.require_signature(issuer)
    row = unit.connection.execute(
        "SELECT version FROM principals WHERE kind = ? AND name = ?", (document.kind, document.name)
    ).fetchone()
    before = 0 if row is None else int(row[0])
    if document.version != before + 1:
        raise RiskError(
            "enrolment_replayed",
            f"{document.subject} stands at version {before}, and this is version {document.version}",
            f"sign version {before + 1}",
        )
    if document.vkey is not None:
        public = VerifyingKey.parse(document.vkey).public
        for name, key in approver_keys(unit.connection, issuer=issuer).items():
            if name != document.name and key.public == public:
                raise RiskError(
                    "approver_key_taken",
                    f"{name} approves with the same key, and one key is one person",
                    "let each approver generate a key of their own: neural-trader identity keygen",
                )
    kind = EntryType.PRINCIPAL_ENROLL if document.active else EntryType.PRINCIPAL_RETIRE
    payload = {"subject": document.subject, "document": document.model_dump(mode="json")}
    seq = unit.append(AuditEntry.by(caller, kind, payload=payload))
    unit.connection.execute(
        "INSERT OR REPLACE INTO principals VALUES (?, ?, ?, ?, ?)",
        (document.kind, document.name, document.version, document.text(), seq),
    )
    return seq


def find_enrolment(
    connection: sqlite3.Connection, kind: Kind, name: str, *, issuer: VerifyingKey
) -> Enrolment | None:
    """Returns somebody's enrolment as it verifies now; None for strangers and for rows that do not."""
    row = connection.execute(
        "SELECT name, document, seq FROM principals WHERE kind = ? AND name = ?", (kind, name)
    ).fetchone()
    return None if row is None else _verified(connection, kind, row, issuer)


def list_enrolments(connection: sqlite3.Connection, *, issuer: VerifyingKey) -> list[Enrolment]:
    """Returns every enrolment that verifies, people first, retired ones included."""
    return [each for kind in _KINDS for each in _enrolments(connection, kind, issuer)]


def _enrolments(connection: sqlite3.Connection, kind: Kind, issuer: VerifyingKey) -> list[Enrolment]:
    rows = connection.execute(
        "SELECT name, document, seq FROM principals WHERE kind = ? ORDER BY name", (kind,)
    ).fetchall()
    return [each for row in rows if (each := _verified(connection, kind, row, issuer)) is not None]


def unverified(connection: sqlite3.Connection, *, issuer: VerifyingKey) -> list[str]:
    """Returns the subjects whose rows do not verify: they were edited, or another issuer signed them."""
    rows = connection.execute("SELECT kind, name FROM principals ORDER BY kind, name").fetchall()
    return [
        f"{kind} {name}"
        for kind, name in rows
        if find_enrolment(connection, kind, name, issuer=issuer) is None
    ]


def roles_of(
    connection: sqlite3.Connection, name: str, *, issuer: VerifyingKey, kind: Kind = "person"
) -> frozenset[Role]:
    """Returns the roles that somebody has now; none for strangers, the retired and edited rows."""
    found = find_enrolment(connection, kind, name, issuer=issuer)
    return frozenset(found.roles) if found is not None else frozenset()


def may_trade(
    connection: sqlite3.Connection, name: str, *, issuer: VerifyingKey, kind: Kind = "person"
) -> bool:
    """Says whether somebody is enrolled, active and a trader; ask where the order is judged."""
    return Role.TRADER in roles_of(connection, name, issuer=issuer, kind=kind)


def approver_keys(connection: sqlite3.Connection, *, issuer: VerifyingKey) -> Mapping[str, VerifyingKey]:
    """Returns the active approvers by name, each with the key that his approvals are checked against."""
    return {
        each.name: VerifyingKey.parse(each.vkey)
        for each in _enrolments(connection, "person", issuer)  # asked at each order: agents may be many
        if each.vkey is not None and Role.APPROVER in each.roles
    }


def _verified(
    connection: sqlite3.Connection, kind: str, row: tuple[str, str, int], issuer: VerifyingKey
) -> Enrolment | None:
    """Returns the row's document if it is signed, is about its row, and is the log's latest word."""
    name, text, seq = row
    document = Enrolment.read(text, issuer)
    if document is None or (document.kind, document.name) != (kind, name):
        return None
    told = connection.execute(
        "SELECT seq, CAST(entry AS TEXT) FROM audit_entries WHERE type IN (?, ?) AND seq >= ?"
        " AND instr(CAST(entry AS TEXT), ?) ORDER BY seq DESC LIMIT 1",
        (*_LOGGED, seq, f'"subject":"{document.subject}"'),
    ).fetchone()
    if told is None:  # its bytes were archived, or the row's seq is made up
        kept = connection.execute("SELECT type, length(entry) FROM audit_entries WHERE seq = ?", (seq,))
        return document if kept.fetchone() in {(kind, 0) for kind in _LOGGED} else None
    return document if told[0] == seq and f'"nonce":"{document.nonce}"' in told[1] else None
