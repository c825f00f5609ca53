"""Breaks: where the venue contradicts the desk. Durable, and open until a person has looked.

While one is open its account cannot trade. A person resolves it; the very same contradiction of the
same order is then known, and opens no second one.
"""

import secrets
import sqlite3
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from neural_trader_governance.alerts import AlertKind, raise_alert
from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Unit
from neural_trader_governance.terms.clocks import from_epoch_us, to_epoch_us
from neural_trader_governance.terms.orders import Order

SCHEMA = """
CREATE TABLE IF NOT EXISTS breaks (
    break_id        TEXT PRIMARY KEY,
    client_order_id TEXT NOT NULL,
    account         TEXT NOT NULL,
    kind            TEXT NOT NULL,
    detail          TEXT NOT NULL,
    opened_us       INTEGER NOT NULL,
    seq             INTEGER NOT NULL,
    resolved_seq    INTEGER,
    UNIQUE (client_order_id, kind, detail)
) STRICT;
CREATE INDEX IF NOT EXISTS breaks_open ON breaks (account) WHERE resolved_seq IS NULL;
"""
_DETAIL_MAX = 500


@dataclass(frozen=True, slots=True)
class Break:
    """One contradiction between desk and venue; `resolved_seq` is None while it is open.

    `client_order_id` is `account NAME` where it is about no order.
    """

    break_id: str
    client_order_id: str
    account: str
    kind: str
    detail: str
    opened_time: datetime
    seq: int
    resolved_seq: int | None


def open_break(unit: Unit, order: Order, *, kind: str, detail: str, caller: Caller, now: datetime) -> bool:
    """Writes a contradiction down, logs it and raises the alert; False if it is known already."""
    intent = order.intent
    entry = AuditEntry.by(
        caller,
        EntryType.RECON,
        account=intent.account,
        symbol=intent.symbol,
        intent_hash=order.intent_hash,
        client_order_id=order.client_order_id,
    )
    return _open(unit, entry, order.client_order_id, intent.account, kind, detail, caller, now)


def open_account_break(
    unit: Unit, account: str, *, kind: str, detail: str, caller: Caller, now: datetime
) -> bool:
    """Writes down that the venue contradicts the desk about a whole account, as `open_break` does."""
    entry = AuditEntry.by(caller, EntryType.RECON, account=account)
    return _open(unit, entry, f"account {account}", account, kind, detail, caller, now)


def _open(
    unit: Unit,
    entry: AuditEntry,
    subject: str,
    account: str,
    kind: str,
    detail: str,
    caller: Caller,
    now: datetime,
) -> bool:
    detail = detail[:_DETAIL_MAX]
    known = unit.connection.execute(
        "SELECT 1 FROM breaks WHERE client_order_id = ? AND kind = ? AND detail = ?", (subject, kind, detail)
    )
    if known.fetchone() is not None:
        return False
    break_id = f"br_{secrets.token_hex(6)}"
    payload: dict[str, JsonValue] = {"break_id": break_id, "break": kind, "detail": detail}
    seq = unit.append(entry.model_copy(update={"payload": payload}))
    unit.connection.execute(
        "INSERT INTO breaks VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
        (break_id, subject, account, kind, detail, to_epoch_us(now), seq),
    )
    message = f"the venue contradicts the desk about {subject}: {detail}"
    raise_alert(unit, caller=caller, kind=AlertKind.RECONCILIATION, message=message[:_DETAIL_MAX], seq=seq)
    return True


def resolve(unit: Unit, break_id: str, *, person: Caller, reason: str) -> int:
    """Closes a break, by a person's word, and logs it; returns the entry's seq.

    Raises:
        RiskError: `person_required`, or `break_resolved` where it is closed already.
        InputError: `unknown_break`, or the reason is empty or longer than 500 characters.
    """
    if not person.is_person:
        raise RiskError(
            "person_required",
            f"the agent {person.agent} asked to resolve a break, which only a person may do",
            "let a person run `neural-trader orders resolve`",
        )
    if not 0 < len(reason := reason.strip()) <= _DETAIL_MAX:
        raise InputError(
            "invalid_reason", f"the reason has {len(reason)} characters", f"give 1 to {_DETAIL_MAX}"
        )
    row = unit.connection.execute("SELECT * FROM breaks WHERE break_id = ?", (break_id,)).fetchone()
    if row is None:
        raise InputError(
            "unknown_break",
            f"there is no break {break_id!r:.40}",
            "take an id from `neural-trader orders breaks`",
        )
    found = _read(row)
    if found.resolved_seq is not None:
        raise RiskError(
            "break_resolved", f"{break_id} was resolved by entry {found.resolved_seq}", "carry on"
        )
    payload = {"break_id": break_id, "resolved": True, "reason": reason}
    about = found.client_order_id if not found.client_order_id.startswith("account ") else None
    entry = AuditEntry.by(
        person,
        EntryType.RECON,
        account=found.account,
        client_order_id=about,
        payload=payload,
    )
    seq = unit.append(entry)
    unit.connection.execute("UPDATE breaks SET resolved_seq = ? WHERE break_id = ?", (seq, break_id))
    return seq


def count_open(connection: sqlite3.Connection, account: str) -> int:
    """Returns how many contradictions about an account nobody has resolved."""
    query = "SELECT COUNT(*) FROM breaks WHERE account = ? AND resolved_seq IS NULL"
    return int(connection.execute(query, (account,)).fetchone()[0])


def list_open(connection: sqlite3.Connection) -> list[Break]:
    """Returns every open break, oldest first."""
    rows = connection.execute("SELECT * FROM breaks WHERE resolved_seq IS NULL ORDER BY seq").fetchall()
    return [_read(row) for row in rows]


def _read(row: tuple[str, str, str, str, str, int, int, int | None]) -> Break:
    return Break(*row[:5], from_epoch_us(row[5]), row[6], row[7])
