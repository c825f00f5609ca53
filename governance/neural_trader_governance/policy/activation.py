"""Activation: which policy is in force is what the log says last, and the issuer signed it.

`ActivePolicy` is the desk's policy source. It asks the log in every transaction that judges an order,
so all servers on a home change over with the commit of the activation, and no request is dropped.
Whatever is wrong with the active bundle denies every order, with the reason, until a person acts.
"""

import functools
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog

from neural_trader_governance.audit.entries import AuditEntry, EntryType, LoggedEntry
from neural_trader_governance.audit.log import read_entry
from neural_trader_governance.errors import IntegrityError, NeuralTraderError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.policy.bundles import BundleFolder, PolicyBundle
from neural_trader_governance.policy.contexts import PolicyContext
from neural_trader_governance.policy.engine import PolicyEngine, Reason, Verdict
from neural_trader_governance.signing.keys import VerifyingKey

UNAVAILABLE_RULE = "policy_unavailable"
"""The rule that a denial names where there was no policy to ask."""

_Entry = tuple[int, bytes]

_ACTIVATE = (
    "have a person run `neural-trader policy activate FILE`, or `policy activate default` for what this"
    " version ships"
)

_log = structlog.get_logger(__name__)


class ActivationUnit(Protocol):
    """What an activation needs of the store's unit: its connection and its log."""

    connection: sqlite3.Connection

    def append(self, entry: AuditEntry) -> int:
        """Appends an audit entry and returns its seq."""
        ...


@dataclass(frozen=True, slots=True)
class Activation:
    """One `policy.activate` entry. Without a bundle signature it is of a version that signed none."""

    seq: int
    version: int
    digest: str
    replaces: str | None
    signer: str
    bundle_signature: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class ClosedPolicy:
    """The judge where no policy can be trusted: everything is denied, and the reason says why."""

    digest: str
    problem: str
    next_step: str

    def decide(self, context: PolicyContext | Mapping[str, object]) -> Verdict:
        """Denies."""
        del context
        reason = Reason(rule=UNAVAILABLE_RULE, message=self.problem, next_step=self.next_step)
        return Verdict(decision="deny", reasons=(reason,), policy_digest=self.digest)


class ActivePolicy:
    """Finds the policy whose activation is the newest in the log; parsed once, checked every time."""

    def __init__(self, folder: BundleFolder, issuer: VerifyingKey) -> None:
        self.folder = folder
        self.issuer = issuer
        self._known: tuple[tuple[_Entry, object], PolicyEngine] | None = None

    def current(self, connection: sqlite3.Connection) -> PolicyEngine | ClosedPolicy:
        """Returns the policy in force in this transaction; never raises for a policy that is broken."""
        try:
            newest = _newest(connection)
            if newest is None:
                return ClosedPolicy("", "No policy was ever activated on this desk", _ACTIVATE)
            if (known := self._known) is not None and known[0] == (newest, self._stamp(known[1].digest)):
                return known[1]
            return self._load(connection, newest)
        except NeuralTraderError as error:
            return ClosedPolicy("", f"The policy in force cannot be read: {error.what}", error.next_step)

    def _load(self, connection: sqlite3.Connection, newest: _Entry) -> PolicyEngine | ClosedPolicy:
        activation = read_activation(connection, newest[0])
        stamp = self._stamp(activation.digest)
        judge = self._open(activation)
        if isinstance(judge, ClosedPolicy):  # never remembered: what was repaired holds at the next order
            _log.error("policy_unavailable", policy_digest=activation.digest, problem=judge.problem)
        else:
            self._known = ((newest, stamp), judge)
        return judge

    def _open(self, activation: Activation) -> PolicyEngine | ClosedPolicy:
        digest = activation.digest
        if not activation.bundle_signature:
            return ClosedPolicy(
                digest, f"The policy {digest[:12]} was activated before policies were signed", _ACTIVATE
            )
        try:
            bundle = self.folder.read(digest)
            bundle.require(self.issuer)
            return engine_of(bundle)
        except NeuralTraderError as error:
            return ClosedPolicy(
                digest, f"The policy {digest[:12]} in force is not usable: {error.what}", error.next_step
            )

    def _stamp(self, digest: str) -> object:
        """Tells one state of the bundle's file from another, for the price of one system call."""
        try:
            status = os.stat(self.folder.path_of(digest))
        except (OSError, IntegrityError) as error:
            return type(error).__name__
        return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def engine_of(bundle: PolicyBundle) -> PolicyEngine:
    """Returns the engine of a bundle, parsed once per process.

    Raises:
        ConfigurationError: this version cannot use the policy.
    """
    return _parse(bundle.policy, bundle.cedar_schema)


@functools.lru_cache(maxsize=16)
def _parse(policy: str, schema: str) -> PolicyEngine:
    return PolicyEngine(policy, schema)


def activate(
    unit: ActivationUnit,
    bundle: PolicyBundle,
    *,
    folder: BundleFolder,
    issuer: VerifyingKey,
    caller: Caller,
) -> Activation:
    """Keeps a bundle and puts it in force, from the commit of this unit on.

    An older version is rolled back to by activating it again.

    Raises:
        RiskError: `person_required` when an agent asks.
        IntegrityError: the bundle is not signed by this desk's issuer.
        ConfigurationError: this version cannot use the policy.
        StorageError: the bundle cannot be written.
    """
    if not caller.is_person:
        raise RiskError(
            "person_required",
            f"the agent {caller.agent} asked to change the policy, which only a person may do",
            "let a person run `neural-trader policy activate FILE`",
        )
    bundle.require(issuer)
    engine_of(bundle)
    kept = folder.keep(bundle, issuer)
    before = newest_activation(unit.connection)
    version = 1 if before is None else before.version + 1
    replaces = None if before is None else before.digest
    payload = {
        "policy_digest": kept.digest,
        "version": version,
        "replaces": replaces,
        "signer": kept.issuer,
        "bundle_signature": kept.signature,
        "comment": bundle.comment,
    }
    seq = unit.append(AuditEntry.by(caller, EntryType.POLICY_ACTIVATE, payload=payload))
    return Activation(seq, version, kept.digest, replaces, kept.issuer, kept.signature, bundle.comment)


def newest_activation(connection: sqlite3.Connection) -> Activation | None:
    """Returns the activation that is in force, or None where there never was one.

    Raises:
        IntegrityError: the entry is damaged.
    """
    newest = _newest(connection)
    return None if newest is None else read_activation(connection, newest[0])


def read_activations(connection: sqlite3.Connection) -> list[Activation]:
    """Returns every activation, oldest first.

    Raises:
        IntegrityError: an entry is damaged.
    """
    query = "SELECT seq FROM audit_entries WHERE type = ? ORDER BY seq"
    rows = connection.execute(query, (EntryType.POLICY_ACTIVATE.value,)).fetchall()
    return [read_activation(connection, int(row[0])) for row in rows]


def read_activation(connection: sqlite3.Connection, seq: int) -> Activation:
    """Returns the activation that stands at a seq.

    Raises:
        InputError: the log has no such entry.
        IntegrityError: the entry is damaged, or no activation.
    """
    return activation_of(read_entry(connection, seq), _count_until(connection, seq))


def activation_of(entry: LoggedEntry, count: int) -> Activation:
    """Returns what an entry activates.

    Args:
        entry: A `policy.activate` entry.
        count: How many activations its log holds up to it; the version where the entry names none.

    Raises:
        IntegrityError: it is no activation.
    """
    digest = entry.payload.get("policy_digest")
    if entry.type is not EntryType.POLICY_ACTIVATE or not isinstance(digest, str):
        raise IntegrityError(
            "activation_malformed",
            f"entry {entry.seq} does not activate a policy",
            "run `neural-trader audit verify`",
        )
    version, replaces = entry.payload.get("version"), entry.payload.get("replaces")
    return Activation(
        seq=entry.seq,
        version=version if isinstance(version, int) else count,
        digest=digest,
        replaces=replaces if isinstance(replaces, str) else None,
        signer=str(entry.payload.get("signer") or ""),
        bundle_signature=str(entry.payload.get("bundle_signature") or ""),
        comment=str(entry.payload.get("comment") or ""),
    )


def _newest(connection: sqlite3.Connection) -> _Entry | None:
    """Returns seq and leaf hash: a unit that is rolled back leaves its seq to another entry."""
    query = "SELECT seq, leaf_hash FROM audit_entries WHERE type = ? ORDER BY seq DESC LIMIT 1"
    row = connection.execute(query, (EntryType.POLICY_ACTIVATE.value,)).fetchone()
    return None if row is None else (int(row[0]), bytes(row[1]))


def _count_until(connection: sqlite3.Connection, seq: int) -> int:
    query = "SELECT count(*) FROM audit_entries WHERE type = ? AND seq <= ?"
    return int(connection.execute(query, (EntryType.POLICY_ACTIVATE.value, seq)).fetchone()[0])
