"""Alerts: what a person must hear of within seconds, written in the transaction that it tells of.

An alert is a row of an outbox. Most are raised by the log itself: `observe` sees every entry that a
unit appends and knows which types a person should hear of, so that no caller can forget one. Any process
on the home may deliver; a claim keeps two from doing so at once, and one that dies leaves its claim to
run out. Delivery is at least once, under an id that stays the same.
"""

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.identity import Caller
from neural_trader_governance.redaction import redact
from neural_trader_governance.untrusted.detectors import HIGH

SCHEMA = """
CREATE TABLE IF NOT EXISTS alerts (
  alert_id TEXT PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, message TEXT NOT NULL,
  principal TEXT NOT NULL, agent TEXT NOT NULL, seq INTEGER NOT NULL, raised_us INTEGER NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS alerts_by_time ON alerts (raised_us);
CREATE TABLE IF NOT EXISTS alert_deliveries (
  alert_id TEXT NOT NULL REFERENCES alerts (alert_id), target TEXT NOT NULL, attempts INTEGER NOT NULL,
  due_us INTEGER NOT NULL, delivered_us INTEGER, error TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (alert_id, target)) STRICT;
"""
KEPT_TRYING_S = 86_400
"""An alert that is older than a day is no longer delivered: it stays in the list."""
QUIET_S = 60
"""The same denial of the same agent alerts once within this time; the log holds every one."""
_MESSAGE_MAX = 500

RISK_RULES = frozenset(
    {
        "daily_loss", "desk_daily_loss", "price_collar", "price_collar_5_sessions", "message_rate",
        "desk_message_rate", "repeated_execution", "throttled", "duplicate_order", "gross_leverage",
        "desk_gross", "max_notional", "max_quantity", "restricted_symbol", "agent_permitted",
        "principal_permitted", "lease_lost", "witness_inconsistent", "witness_late",
        "reconciliation_break", "mandate", "max_gross", "max_position", "max_short_position", "volume_share",
        "account_sent_today", "agent_sent_today",
    }
)  # fmt: skip
"""Rules whose denial says that something runs away or oversteps; the others are everyday refusals."""


class AlertKind(StrEnum):
    """What happened."""

    HALT = "halt"
    RESUME = "resume"
    DENIAL = "policy_denial"
    THROTTLE = "throttle_trip"
    LEASE = "lease_lost"
    RECONCILIATION = "reconciliation_break"
    WITNESS = "witness"
    AUDIT = "audit_write_failure"
    TAINT = "taint"
    OVERRIDE = "override_granted"
    LIVE = "live_trading"
    APPROVAL = "approval_waiting"
    MEMORY = "memory_capture"
    TEST = "test"


class AlertUnit(Protocol):
    """What an alert needs of the store's unit: its connection and its log."""

    connection: sqlite3.Connection

    def append(self, entry: AuditEntry) -> int:
        """Appends an audit entry and returns its seq."""
        ...


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that a person must hear of.

    Attributes:
        alert_id: The same for every attempt to deliver it: receivers drop what they have seen.
        seq: The audit entry that it tells of.
        raised_us: When, by the machine's clock: microseconds since 1970.
    """

    alert_id: str
    kind: str
    message: str
    principal: str
    agent: str
    seq: int
    raised_us: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one alert stands with one target."""

    alert: Alert
    target: str
    attempts: int
    delivered_us: int | None
    error: str


def machine_us() -> int:
    """Returns the machine's time; alerts are for people, whatever clock the desk replays."""
    return time.time_ns() // 1_000


def raise_alert(
    unit: AlertUnit, *, caller: Caller, kind: AlertKind, message: str, seq: int | None = None
) -> str:
    """Raises an alert in the caller's transaction and returns its id.

    Args:
        unit: The transaction; a rollback takes the alert with it.
        caller: Whose doing it is.
        kind: What happened.
        message: In words, at most 500 characters are kept; secrets in it are hidden.
        seq: The entry that it tells of; None appends an `alert` entry of its own.
    """
    message = redact(message)[:_MESSAGE_MAX]
    if seq is None:
        payload = {"kind": kind.value, "reason": message}
        seq = unit.append(AuditEntry.by(caller, EntryType.ALERT, payload=payload))
    return _insert(unit.connection, caller.principal, caller.agent, kind, "", message, seq)


def observe(connection: sqlite3.Connection, entry: AuditEntry, seq: int) -> None:
    """Raises the alert that an entry calls for, if it calls for one; the store asks for every entry."""
    if entry.type not in _TELLING:
        return
    told = _tell(entry)
    if told is not None:
        kind, subject, message = told
        if kind is AlertKind.DENIAL and _told_lately(connection, entry, kind, subject):
            return
        if kind is AlertKind.HALT and entry.agent and _stands(connection, entry):
            return  # an agent that pulls the same switch for ever must not drown what people must hear
        _insert(connection, entry.principal, entry.agent, kind, subject, redact(message)[:_MESSAGE_MAX], seq)


def _insert(
    connection: sqlite3.Connection,
    principal: str,
    agent: str,
    kind: AlertKind,
    subject: str,
    message: str,
    seq: int,
) -> str:
    alert_id = f"al_{seq}"  # an entry has one alert: whoever raises it a second time changes nothing
    connection.execute(
        "INSERT INTO alerts (alert_id, kind, subject, message, principal, agent, seq, raised_us)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (alert_id) DO NOTHING",
        (alert_id, kind.value, subject, message, principal, agent, seq, machine_us()),
    )
    return alert_id


_TELLING: dict[EntryType, AlertKind] = {
    EntryType.KILL: AlertKind.HALT,
    EntryType.RESUME: AlertKind.RESUME,
    EntryType.POLICY_DECISION: AlertKind.DENIAL,
    EntryType.APPROVAL_REQUEST: AlertKind.APPROVAL,
    EntryType.THROTTLE_TRIP: AlertKind.THROTTLE,
    EntryType.LEASE_LOST: AlertKind.LEASE,
    EntryType.WITNESS_REFUSE: AlertKind.WITNESS,
    EntryType.OVERRIDE_GRANT: AlertKind.OVERRIDE,
    EntryType.LIVE_PERMIT: AlertKind.LIVE,
    EntryType.LIVE_END: AlertKind.LIVE,
    EntryType.TAINT_MARK: AlertKind.TAINT,
}


def _tell(entry: AuditEntry) -> tuple[AlertKind, str, str] | None:
    """Returns an entry's alert: its kind, what makes it the same as another, and its words."""
    kind, payload = _TELLING[entry.type], entry.payload
    who = f"agent {entry.agent} of {entry.principal}" if entry.agent else entry.principal
    about = f" {entry.symbol}" if entry.symbol else ""
    if kind is AlertKind.DENIAL:
        rules = payload.get("rules")
        named = sorted(str(rule) for rule in rules if rule in RISK_RULES) if isinstance(rules, list) else []
        if payload.get("decision") != "deny" or not named:
            return None
        listed = ", ".join(named)
        return kind, listed, f"policy denied{about} to {who}: {listed}"
    if kind is AlertKind.TAINT:
        finding = payload.get("finding")
        score = finding.get("score_bps") if isinstance(finding, dict) else None
        if not isinstance(score, int) or score < HIGH * 10_000:
            return None
        return kind, "", f"{who} read suspicious text from {payload.get('source')} ({payload.get('tool')})"
    if kind is AlertKind.APPROVAL:
        preview = payload.get("preview_id", "")
        return kind, str(preview), f"an order{about} of {who} waits for a person: {preview}"
    words = {
        AlertKind.HALT: "trading was halted",
        AlertKind.RESUME: "trading was released",
        AlertKind.THROTTLE: f"repeated execution tripped the throttle{about}",
        AlertKind.LEASE: f"the lease of {who} was lost; its working orders are canceled",
        AlertKind.WITNESS: "the witness refused to cosign this log",
        AlertKind.OVERRIDE: f"{payload.get('rule') or 'a rule'} was lifted for a while",
        AlertKind.LIVE: "real money was "
        + ("permitted for a while" if entry.type is EntryType.LIVE_PERMIT else "switched off"),
    }[kind]
    scope = payload.get("scope")
    reason = payload.get("reason") or payload.get("rule") or payload.get("detail")
    message = f"{words} by {who}" if kind is not AlertKind.LEASE else words
    if isinstance(scope, str) and scope:
        message += f" ({scope})"
    return kind, "", f"{message}: {reason}" if isinstance(reason, str) and reason else message


def _stands(connection: sqlite3.Connection, entry: AuditEntry) -> bool:
    query = "SELECT 1 FROM halts WHERE scope = ?"
    return connection.execute(query, (str(entry.payload.get("scope")),)).fetchone() is not None


def _told_lately(connection: sqlite3.Connection, entry: AuditEntry, kind: AlertKind, subject: str) -> bool:
    row = connection.execute(
        "SELECT 1 FROM alerts WHERE raised_us > ? AND kind = ? AND principal = ? AND agent = ?"
        " AND subject = ?",
        (machine_us() - QUIET_S * 1_000_000, kind.value, entry.principal, entry.agent, subject),
    ).fetchone()
    return row is not None


def due(connection: sqlite3.Connection, target: str, *, now_us: int, limit: int = 32) -> list[Alert]:
    """Returns what this target has not received and nobody is delivering to it now, oldest first."""
    rows = connection.execute(
        "SELECT a.alert_id, a.kind, a.message, a.principal, a.agent, a.seq, a.raised_us FROM alerts a"
        " LEFT JOIN alert_deliveries d ON d.alert_id = a.alert_id AND d.target = ?"
        " WHERE a.raised_us > ? AND d.delivered_us IS NULL AND coalesce(d.due_us, 0) <= ?"
        " ORDER BY a.seq LIMIT ?",
        (target, now_us - KEPT_TRYING_S * 1_000_000, now_us, limit),
    ).fetchall()
    return [_alert(row) for row in rows]


def claim(connection: sqlite3.Connection, alert_id: str, target: str, *, now_us: int, until_us: int) -> int:
    """Claims one delivery until a moment and returns the number of this attempt, or 0 if others have it."""
    row = connection.execute(
        "INSERT INTO alert_deliveries (alert_id, target, attempts, due_us) VALUES (?, ?, 1, ?)"
        " ON CONFLICT (alert_id, target) DO UPDATE SET attempts = attempts + 1, due_us = excluded.due_us"
        " WHERE delivered_us IS NULL AND due_us <= ? RETURNING attempts",
        (alert_id, target, until_us, now_us),
    ).fetchone()
    return 0 if row is None else int(row[0])


def record_delivered(connection: sqlite3.Connection, alert_id: str, target: str, *, now_us: int) -> None:
    """Records that the target has it; the first time stands."""
    connection.execute(
        "UPDATE alert_deliveries SET delivered_us = coalesce(delivered_us, ?), error = ''"
        " WHERE alert_id = ? AND target = ?",
        (now_us, alert_id, target),
    )


def record_failed(
    connection: sqlite3.Connection, alert_id: str, target: str, *, error: str, due_us: int
) -> None:
    """Records why an attempt failed and when the next one is due."""
    connection.execute(
        "UPDATE alert_deliveries SET error = ?, due_us = ? WHERE alert_id = ? AND target = ?"
        " AND delivered_us IS NULL",
        (redact(error)[:200], due_us, alert_id, target),
    )


def read_alerts(connection: sqlite3.Connection, *, limit: int = 50) -> list[tuple[Alert, Sequence[Delivery]]]:
    """Returns the newest alerts, each with how its deliveries stand."""
    rows = connection.execute(
        "SELECT alert_id, kind, message, principal, agent, seq, raised_us FROM alerts"
        " ORDER BY raised_us DESC, seq DESC LIMIT ?",
        (limit,),
    ).fetchall()
    found: list[tuple[Alert, Sequence[Delivery]]] = []
    for row in rows:
        alert = _alert(row)
        deliveries = connection.execute(
            "SELECT target, attempts, delivered_us, error FROM alert_deliveries WHERE alert_id = ?"
            " ORDER BY target",
            (alert.alert_id,),
        ).fetchall()
        found.append((alert, [Delivery(alert, str(d[0]), int(d[1]), d[2], str(d[3])) for d in deliveries]))
    return found


def _alert(row: tuple[Any, ...]) -> Alert:
    alert_id, kind, message, principal, agent, seq, raised_us = row
    return Alert(alert_id, kind, message, principal, agent, int(seq), int(raised_us))
